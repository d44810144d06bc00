// A click on a picture opens it in full, or, where the item has one, the panorama to look around in. Escape closes.
const zoom = document.getElementById("zoom"), around = document.getElementById("sphere");
let open = null;
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.zoom");
  const scene = button && button.closest(".item").querySelector("script.sphere");
  if (scene) {
    around.showModal();
    open = panoSphere(around.firstElementChild, JSON.parse(scene.textContent), {
      title: button.closest(".item").querySelector("h3").textContent,
      shown: JSON.parse(button.dataset.shown), opacity: Number(button.dataset.opacity), onClose: () => around.close(),
    });
  } else if (button) {
    const picture = button.querySelector("img");
    zoom.querySelector("img").src = picture.src;
    zoom.querySelector("p").textContent = picture.alt;
    zoom.showModal();
  } else if (event.target.closest("#zoom")) {
    zoom.close();
  } else if (event.target === around) {  // beside the view
    around.close();
  }
});
if (around) around.addEventListener("close", () => { if (open) open.destroy(); open = null; });

// What is wider than the window is scrolled: by keys too, so it can be reached by them where it has to be.
const wide = document.querySelectorAll(".table-card, .chart.wide");
const reach = () => wide.forEach((box) => {
  if (box.scrollWidth <= box.clientWidth) return ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name));
  const title = box.querySelector("caption, figcaption") || box.closest("section").querySelector("h2");
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", `${title.textContent}, to be scrolled`);
});
addEventListener("resize", reach);
document.addEventListener("toggle", reach, true);  // of what is folded away
reach();
