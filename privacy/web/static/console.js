"use strict";
// Keeps a page up to date: the server says that something changed, the page is fetched again and its content replaced.
// Without server-sent events it is fetched every ten seconds; without this script the browser reloads it.
(() => {
  const POLL_MS = 10000, QUIET_MS = 400;
  const main = document.querySelector("[data-live]");
  const link = document.getElementById("link"), said = document.getElementById("said");
  if (!main || !link || !said) { return; }
  let busy = false, again = false, timer = null, newest = "";

  const ages = () => {
    for (const one of document.querySelectorAll("time[data-age]")) {
      const seconds = Math.max(0, (Date.now() - Date.parse(one.dateTime)) / 1000);
      const [size, unit] = [[86400, "days"], [3600, "h"], [60, "min"]].find(([s]) => seconds >= 2 * s) || [1, "s"];
      const text = `${Math.round(seconds / size)} ${unit} ago`;
      if (one.textContent !== text) { one.textContent = text; }
    }
  };

  const state = (name, text) => {
    if (link.dataset.state !== name || link.textContent !== text) { link.dataset.state = name; link.textContent = text; }
  };

  // What the reader opened, scrolled and focused stays so.
  const marks = (root, what) => [...root.querySelectorAll(what)];
  const replace = (fresh) => {
    const open = marks(main, "details").map((one) => one.open);
    const scrolled = marks(main, ".scroll").map((one) => one.scrollLeft);
    const focusable = "a, summary, button, [tabindex]";
    const focused = marks(main, focusable).indexOf(document.activeElement);
    main.replaceChildren(...fresh.childNodes);
    marks(main, "details").forEach((one, place) => { one.open = open[place] || false; });
    marks(main, ".scroll").forEach((one, place) => { one.scrollLeft = scrolled[place] || 0; });
    if (focused >= 0) { const one = marks(main, focusable)[focused]; if (one) { one.focus({ preventScroll: true }); } }
    ages();
  };

  const refresh = async () => {
    if (busy) { again = true; return; }
    busy = true;
    main.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", redirect: "follow" });
      if (answer.redirected && new URL(answer.url).pathname === "/login") { location.reload(); return; }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-live]");
      if (fresh && fresh.innerHTML !== newest) {
        newest = fresh.innerHTML;
        replace(document.importNode(fresh, true));
      }
    } catch {
      state("lost", "The console does not answer; it is tried again.");
    } finally {
      busy = false;
      main.removeAttribute("aria-busy");
      if (again) { again = false; later(); }
    }
  };
  const later = () => { clearTimeout(timer); timer = setTimeout(refresh, QUIET_MS); };

  let polling = null;
  const poll = () => { if (polling === null) { polling = setInterval(refresh, POLL_MS); } };
  const stopPolling = () => { clearInterval(polling); polling = null; };

  const listen = () => {
    if (!window.EventSource) { poll(); return; }
    const source = new EventSource("/live");
    let before = null;
    const heard = (event) => {
      stopPolling();
      state("live", "Live");
      if (before !== null && before !== event.lastEventId) {
        const text = JSON.parse(event.data).said;
        if (text) { said.textContent = text; }
        later();
      }
      before = event.lastEventId;
    };
    source.addEventListener("hello", heard);
    source.addEventListener("change", heard);
    source.addEventListener("error", () => {
      state("lost", "Not live: tried again, and looked up every 10 s.");
      poll();
      if (source.readyState === EventSource.CLOSED) { setTimeout(listen, POLL_MS); }
    });
  };

  ages();
  setInterval(ages, 1000);
  setInterval(refresh, 60000); // what only time changes, such as an alarm about silence
  listen();
})();
