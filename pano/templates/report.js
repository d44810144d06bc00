// A click on a picture opens it in full; Escape or another click closes it.
const zoom = document.getElementById("zoom");
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.zoom");
  if (button) {
    const picture = button.querySelector("img");
    zoom.querySelector("img").src = picture.src;
    zoom.querySelector("p").textContent = picture.alt;
    zoom.showModal();
  } else if (event.target.closest("#zoom")) {
    zoom.close();
  }
});
