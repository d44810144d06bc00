// The theme lays wide tables into boxes that scroll, and on a phone figures scroll too: the arrow keys must reach them.
const reach = () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    Object.assign(box, { tabIndex: 0, role: "region", ariaLabel: "table" })
  }
  for (const picture of document.querySelectorAll("p:not(.figure) > img[src$='.svg']")) {
    Object.assign(picture.parentElement, { className: "figure", tabIndex: 0, role: "region", ariaLabel: "figure" })
  }
}
new MutationObserver(reach).observe(document.documentElement, { childList: true, subtree: true })

// A browser starts no worker from a page that lies on a disk. There the worker's script runs in a hidden frame instead, so that the
// site's search works without a server. The theme looks for the name IFrameWorker.
if (location.protocol === "file:") {
  window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.addEventListener("load", () => {
        const inside = frame.contentWindow
        // The script's own `postMessage` speaks to this object.
        inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
        // Each of these scripts needs the one before: they are awaited.
        inside.importScripts = (...urls) =>
          urls.reduce((before, each) => before.then(() => this.load(inside, each)), Promise.resolve())
        this.load(inside, url).then(() => {
          this.inside = inside
          this.waiting.forEach(data => this.postMessage(data))
        })
      }, { once: true })
      frame.srcdoc = "<body></body>"
      document.body.append(frame)
    }

    load(inside, url) {
      return new Promise((resolve, reject) => {
        const script = inside.document.createElement("script")
        script.src = new URL(url, location.href)
        script.onload = resolve
        script.onerror = () => reject(new Error(`${url} cannot be loaded`))
        inside.document.body.append(script)
      })
    }

    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new MessageEvent("message", { data }))
      else this.waiting.push(data)
    }
  }
  window.Worker = window.IFrameWorker
}
