"use strict";
// Refreshes the page's live part, filters while one types, and sends actions without leaving the page. Without this
// script the page does the same by forms, links and a refresh of the browser.
(() => {
  const seconds = Number(document.body.dataset.refreshSeconds) || 10;
  const filter = document.getElementById("filter");
  const act = document.getElementById("act-form");
  let running = null;

  // Takes over what has changed; scroll position, focus and open details stay.
  async function refresh(url) {
    running?.abort();
    const abort = running = new AbortController();
    try {
      const response = await fetch(url, { signal: abort.signal, cache: "no-store" });
      if (!response.ok) throw new Error(`the daemon responds with status ${response.status}`);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const live = document.getElementById("live");
      const focused = live.contains(document.activeElement) ? path(live, document.activeElement) : null;
      const offsets = [...live.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
      live.replaceChildren(...page.getElementById("live").childNodes);
      live.querySelectorAll(".scroll").forEach((box, index) => { box.scrollLeft = offsets[index] || 0; });
      if (focused) live.querySelector(focused)?.focus({ preventScroll: true });
      document.title = page.title;
      status(page.getElementById("updated").textContent, false);
    } catch (error) {
      if (error.name !== "AbortError") status(`Not updated since ${document.body.dataset.updated}: ${error.message}`, true);
    }
  }

  function path(root, element) {
    const parts = [];
    for (let at = element; at !== root; at = at.parentElement) {
      parts.unshift(`:nth-child(${[...at.parentElement.children].indexOf(at) + 1})`);
    }
    return element.getAttribute("href") ? `a[href="${CSS.escape(element.getAttribute("href"))}"]` : `#live > ${parts.join(" > ")}`;
  }

  function status(text, failed) {
    const line = document.getElementById("updated");
    if (!failed) document.body.dataset.updated = text.replace("Updated ", "");
    line.textContent = text;
    line.classList.toggle("bad", failed);
  }

  function select() {
    const asked = new URLSearchParams(new FormData(filter));
    for (const [name, value] of [...asked]) if (!value || (name === "sort" && value === "severity")) asked.delete(name);
    const url = new URL(location);
    url.search = asked;
    history.replaceState(null, "", url);
    refresh(url);
  }

  status(document.getElementById("updated").textContent, false);
  if (filter) {
    filter.classList.add("scripted");
    let typing;
    filter.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(select, 150); });
    filter.addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(typing); select(); });
    document.getElementById("live").addEventListener("click", (event) => {
      const tile = event.target.closest("a.tile");
      if (!tile || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      filter.elements.state.value = new URL(tile.href).searchParams.get("state") || "";
      select();
    });
  }
  if (act) {
    act.addEventListener("submit", async (event) => {
      event.preventDefault();
      const form = new URLSearchParams(new FormData(act, event.submitter));
      const done = document.getElementById("done");
      done.textContent = "…";
      try {
        // Not act.action: the buttons bear that name.
        const response = await fetch(act.getAttribute("action"), { method: "POST", body: form });
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const lines = page.getElementById("done-lines");
        done.replaceChildren(...(lines ? [lines] : [`The daemon responds with status ${response.status}`]));
      } catch (error) {
        done.textContent = `Not done: ${error.message}`;
      }
      refresh(location);
    });
  }
  setInterval(() => { if (!document.hidden) refresh(location); }, 1000 * seconds);
})();
