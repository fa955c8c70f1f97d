// Adds infinite scrolling and live updates to the runs page.
"use strict";

const table = document.querySelector("table.runs");
const news = document.getElementById("news");
const PAUSE = 2000; // milliseconds between polls for changes

function rowsOf(html) {
  const template = document.createElement("template");
  template.innerHTML = `<table><tbody>${html}</tbody></table>`;
  return [...template.content.querySelectorAll("tr[data-key]")];
}

// Each page of rows is a tbody. Rows far off screen are removed from the document; their height stays.

const away = new Map(); // removed rows by their tbody
const far = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) bring(target);
    else if (!away.has(target) && target.rows.length && !target.contains(document.activeElement)) take(target);
  }
}, { rootMargin: "1200px" });

function take(part) {
  const height = part.offsetHeight;
  const rows = document.createDocumentFragment();
  rows.append(...part.rows);
  away.set(part, rows);
  part.insertRow().insertCell().style.height = `${height}px`;
}

function bring(part) {
  if (!away.has(part)) return;
  part.replaceChildren(away.get(part));
  away.delete(part);
}

far.observe(table.tBodies[0]);

function everyRow() {
  return [...table.tBodies].flatMap((part) => [...(away.get(part)?.children ?? part.rows)]);
}

function rowOf(key) {
  const selector = `tr[data-key="${CSS.escape(key)}"]`;
  const parked = [...away.values()].map((rows) => rows.querySelector(selector));
  return table.querySelector(selector) ?? parked.find((row) => row) ?? null;
}

// further pages

async function more(link) {
  const answer = await fetch(link.href);
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const part = table.createTBody();
  for (const row of page.querySelectorAll("table.runs tbody tr")) {
    if (!rowOf(row.dataset.key)) part.append(document.adoptNode(row));
  }
  far.observe(part);
  const next = page.getElementById("next");
  if (next) link.href = next.href;
  else link.remove();
  return Boolean(next);
}

// one at a time: a page that was asked for before a change must not be shown after it
let busy = Promise.resolve();
function alone(work) {
  busy = busy.then(work, work);
  return busy;
}

const link = document.getElementById("next");
if (link) {
  let loading = false;
  const near = new IntersectionObserver(async (entries) => {
    if (loading || !entries.some((entry) => entry.isIntersecting)) return;
    loading = true;
    try {
      if (await alone(() => more(link))) {
        near.unobserve(link); // observing it again fires at once if it is still near
        near.observe(link);
      }
    } catch {
      near.unobserve(link); // the link still works, and after an outage so does scrolling
      setTimeout(() => near.observe(link), PAUSE);
    }
    loading = false;
  }, { rootMargin: "800px" });
  near.observe(link);
}

// scroll restoration: the number of pages and the position, kept while this tab is open

const place = `place of ${location.href}`;
addEventListener("pagehide", () => {
  sessionStorage.setItem(place, JSON.stringify([table.tBodies.length, scrollY]));
});

async function returned() {
  const [pages, at] = JSON.parse(sessionStorage.getItem(place) ?? "[1, 0]");
  while (table.tBodies.length < pages && await alone(() => more(link)));
  scrollTo(0, at);
}
if (link && performance.getEntriesByType("navigation")[0].type === "back_forward") returned().catch(() => {});

// live updates

function isBefore(one, other) {
  const [a, b] = [one.dataset, other.dataset];
  return a.timestamp > b.timestamp || (a.timestamp === b.timestamp && a.key > b.key);
}

// keeps the row's place, checkbox and focus
function renew(old, row) {
  row.querySelector("input[type=checkbox]").checked = old.querySelector("input[type=checkbox]").checked;
  const at = [...old.querySelectorAll("a, input")].indexOf(document.activeElement);
  old.replaceWith(row);
  if (at >= 0) row.querySelectorAll("a, input")[at]?.focus();
}

// returns whether the row is new, but its place in this order is unknown
function put(row) {
  const old = rowOf(row.dataset.key);
  if (old) renew(old, row);
  if (old && old.dataset.timestamp === row.dataset.timestamp) return false;
  if (table.dataset.sort !== "-timestamp") return !old;
  const others = everyRow().filter((each) => each !== row);
  const after = others.find((each) => isBefore(row, each));
  const above = !("first" in table.dataset) && after === others[0];
  const below = !after && document.getElementById("next");
  if (above || below) { // it belongs to a page that is not here
    row.remove();
    return false;
  }
  if (!old) row.classList.add("new");
  if (after) after.before(row);
  else if (others.length) others.at(-1).after(row);
  else table.tBodies[0].append(row);
  document.getElementById("empty")?.remove();
  return false;
}

function change(rows) {
  let unplaced = 0;
  for (const [key, html] of Object.entries(rows)) {
    if (html === null) rowOf(key)?.remove();
    else for (const row of rowsOf(html)) unplaced += put(row);
  }
  if (unplaced) news.textContent = "There are new or changed runs: reload to see them in this order.";
}

async function look() {
  const url = new URL(table.dataset.live, location.href);
  url.searchParams.set("token", table.dataset.token);
  const answer = await fetch(url, { cache: "no-store" });
  if (answer.status === 409) {
    news.textContent = "The index was rebuilt: reload to go on.";
    return false;
  }
  if (!answer.ok) throw new Error(answer.statusText);
  const found = await answer.json();
  table.dataset.token = found.next;
  change(found.rows);
  return true;
}

async function follow() {
  let going = true;
  if (!document.hidden) {
    try {
      going = await alone(look);
      if (news.dataset.away) news.textContent = news.dataset.away = "";
    } catch {
      news.textContent = news.dataset.away = "The server does not answer.";
    }
  }
  if (going) setTimeout(follow, PAUSE);
}
setTimeout(follow, PAUSE);

// the count, and suggested values of filters: fetched after the rows

async function count() {
  const answer = await fetch(table.dataset.count);
  if (answer.ok) document.getElementById("count").textContent = `${(await answer.json()).runs.toLocaleString()}`;
}
count().catch(() => {});

async function offer(input) {
  const list = document.getElementById(input.getAttribute("list"));
  if (list.dataset.asked) return;
  list.dataset.asked = "yes";
  const answer = await fetch(input.dataset.values);
  if (!answer.ok) return;
  for (const { value, runs } of (await answer.json()).values.slice(0, 500)) {
    const option = document.createElement("option");
    option.value = value;
    option.label = `${value} (${runs})`;
    list.append(option);
  }
}
document.querySelector("form.filters").addEventListener("focusin", (event) => {
  if (event.target.dataset.values) offer(event.target).catch(() => {});
});

// keys: / to the filters, j and k to the next and previous run, x to choose it; Enter opens it

function step(by) {
  const rows = everyRow().filter((each) => each.isConnected);
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const row = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))];
  row?.querySelector("td.name a").focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const work = {
    "/": () => document.querySelector("form.filters input").focus(),
    j: () => step(1),
    k: () => step(-1),
    x: () => document.activeElement.closest("tr[data-key]")?.querySelector("input[type=checkbox]").click(),
  }[event.key];
  if (work) {
    event.preventDefault();
    work();
  }
});
