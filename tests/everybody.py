"""What everybody needs of a page: names, targets that a finger hits, colours, and the keyboard."""

from importlib import resources

from browser import Tab

AXE = resources.files("axe_playwright_python").joinpath("axe.min.js")
SMALL = """[...document.querySelectorAll(
    'button, select, input, textarea, label.button, summary, nav a')]
  .filter((e) => e.offsetParent !== null && e.type !== 'file')
  .filter((e) => !(e.type === 'checkbox' && e.closest('label')))
  .map((e) => [e.id || e.textContent || e.outerHTML, e.getBoundingClientRect()])
  .filter(([, r]) => r.height < 43.9 || r.width < 43.9)
  .map(([n, r]) => `${n} ${r.width}x${r.height}`)"""
SMALL_LABELS = """[...document.querySelectorAll('label')]
  .filter((e) => e.offsetParent !== null && e.querySelector('input[type=checkbox]'))
  .filter((e) => e.getBoundingClientRect().height < 43.9)
  .map((e) => e.textContent)"""
NAMELESS = """[...document.querySelectorAll('button, select, input, textarea')]
  .filter((e) => e.offsetParent !== null)
  .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label')))
  .map((e) => e.outerHTML)"""
KEYED = """window.keyed = [...document.querySelectorAll(
    'a[href], button, select, input, summary, canvas[tabindex], [role=region][tabindex]')]
  .filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0);
document.addEventListener('focusin', (event) => { event.target.reached = true; });
keyed.length"""
UNREACHED = "keyed.filter((e) => !e.reached).map((e) => e.outerHTML.slice(0, 120))"


def serious(tab: Tab) -> list:
    """What axe-core finds that is serious or worse."""
    tab.page.evaluate(AXE.read_text())
    found = tab.page.evaluate("axe.run().then((r) => r.violations)")
    return [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def faults(tab: Tab) -> list:
    """All that keeps somebody from using the page as it stands."""
    tab.wait_for("document.readyState === 'complete'")
    small = tab.page.evaluate(SMALL) + tab.page.evaluate(SMALL_LABELS)
    return [
        *(f"too small for a finger: {one}" for one in small),
        *(f"without a name: {one}" for one in tab.page.evaluate(NAMELESS)),
        *(f"axe: {one}" for one in serious(tab)),
        *([f"{tab.overflow_px()} px too wide"] if tab.overflow_px() > 0 else []),
        *([f"{tab.broken_images()} broken pictures"] if tab.broken_images() else []),
        *(f"console: {one}" for one in tab.console),
    ]


def not_reached_by_tab(tab: Tab) -> list[str]:
    """What is there to be used and Tab never comes to, from the top of the page."""
    tab.page.evaluate("document.activeElement.blur()")
    for _ in range(tab.page.evaluate(KEYED) + 8):  # the browser itself stops at a few more
        tab.page.keyboard.press("Tab")
    return list(tab.page.evaluate(UNREACHED))
