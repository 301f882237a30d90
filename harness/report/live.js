"use strict";

// The page of a run under way follows it: it asks for the next page, which the server holds back until there is one,
// and changes what differs, so that what is being read, opened or focused stays. Each time it says so by an event
// "content" on the document, for whoever has to draw on new figures.
{
  const RETRY_MS = 3000;
  // Drawn as one: a figure in which a part is exchanged is no figure.
  const WHOLE = new Set(["FIGURE", "TABLE", "svg"]);

  // The pages are compared with each other and not with the document, which other scripts change. `twin` leads from a
  // node of the page that came last to the node of the document that shows it.
  const twin = new WeakMap();
  let shown = document.querySelector("main").cloneNode(true);
  pair(shown, document.querySelector("main"));

  const bar = document.createElement("p");
  bar.className = "live";
  bar.setAttribute("role", "status");
  document.querySelector("main").before(bar);

  function pair(incoming, live) {
    twin.set(incoming, live);
    if (!WHOLE.has(incoming.nodeName)) incoming.childNodes.forEach((child, at) => pair(child, live.childNodes[at]));
  }

  // What is the same thing in two pages: by what names it, else the how-many-th of its kind it is among its siblings.
  function keyed(parent) {
    const counts = new Map();
    const children = Array.from(parent.childNodes).filter((child) => child.nodeType === Node.ELEMENT_NODE || child.data.trim());
    return new Map(children.map((child) => {
      const name = child.id || child.getAttribute?.("aria-labelledby") || child.getAttribute?.("aria-label") || "";
      const kind = `${child.nodeName} ${name}`;
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      return [`${kind} ${counts.get(kind)}`, child];
    }));
  }

  function change(before, after) {
    const live = twin.get(before);
    if (before.isEqualNode(after)) {
      pair(after, live);
    } else if (before.nodeName !== after.nodeName || WHOLE.has(after.nodeName)) {
      const fresh = document.importNode(after, true);
      live.replaceWith(fresh);
      pair(after, fresh);
    } else if (after.nodeType !== Node.ELEMENT_NODE) {
      live.data = after.data;
      twin.set(after, live);
    } else {
      for (const { name, value } of after.attributes) {
        // What somebody has folded stays folded.
        if (name !== "open" && before.getAttribute(name) !== value) live.setAttribute(name, value);
      }
      twin.set(after, live);
      changeChildren(before, after, live);
    }
  }

  function changeChildren(before, after, live) {
    const old = keyed(before);
    let last = null;
    for (const [key, child] of keyed(after)) {
      if (old.has(key)) {
        change(old.get(key), child);
        old.delete(key);
        const mine = twin.get(child);
        // Only what is out of order moves: a move takes the focus away.
        if (last && last.compareDocumentPosition(mine) & Node.DOCUMENT_POSITION_PRECEDING) last.after(mine);
      } else {
        const fresh = document.importNode(child, true);
        if (last) last.after(fresh);
        else live.prepend(fresh);
        pair(child, fresh);
      }
      last = twin.get(child);
    }
    for (const gone of old.values()) twin.get(gone).remove();
  }

  // The topmost heading or figure in sight keeps its place, whatever grows above it.
  function anchor() {
    return Array.from(document.querySelectorAll("main :is(h1, h2, h3, figure, table, summary)"))
      .find((element) => element.getBoundingClientRect().bottom > 0);
  }

  // Where the focus was, as the way down from `main`.
  function way(element) {
    const steps = [];
    for (let at = element; at !== document.querySelector("main"); at = at.parentNode) {
      if (!at) return null;
      steps.unshift(Array.prototype.indexOf.call(at.parentNode?.childNodes ?? [], at));
    }
    return steps;
  }

  function show(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    const main = page.querySelector("main");
    if (!main) return;
    const kept = anchor();
    const top = kept?.getBoundingClientRect().top;
    const focused = document.activeElement;
    const path = focused ? way(focused) : null;
    change(shown, main);
    shown = main;
    document.title = page.title;
    document.dispatchEvent(new Event("content"));
    if (focused && !focused.isConnected) {
      path?.reduce((at, step) => at?.childNodes[step], document.querySelector("main"))?.focus?.({ preventScroll: true });
    }
    if (kept?.isConnected && scrollY > 0) scrollBy({ top: kept.getBoundingClientRect().top - top, behavior: "instant" });
  }

  // Only what is news is said: a reader of screens reads it out.
  function say(words) {
    if (bar.textContent !== words) bar.textContent = words;
  }

  async function follow() {
    let tag = "";
    for (;;) {
      try {
        const answer = await fetch("/", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
        if (answer.status === 200) {
          show(await answer.text());
          tag = answer.headers.get("ETag");
          say(decodeURIComponent(answer.headers.get("X-Words")));
          if (answer.headers.has("X-Final")) return;
        } else if (answer.status !== 304) {
          throw new Error(answer.statusText);
        }
      } catch {
        // The next run at this address counts from the beginning.
        tag = "";
        say(bar.dataset.lost ?? (bar.dataset.lost = `Connection lost at ${new Date().toLocaleTimeString()}. ` +
          "The page shows the run as it was then."));
        await new Promise((done) => setTimeout(done, RETRY_MS));
        continue;
      }
      delete bar.dataset.lost;
    }
  }

  follow();
}
