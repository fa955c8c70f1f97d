// Adds to the runs page what a page alone cannot do: further pages while scrolling, and what changes meanwhile.
"use strict";

const table = document.querySelector("table.runs");
const body = table.tBodies[0];
const news = document.getElementById("news");
const PAUSE = 2000; // milliseconds between two looks at what changed

function rowsOf(html) {
  const template = document.createElement("template");
  template.innerHTML = `<table><tbody>${html}</tbody></table>`;
  return [...template.content.querySelectorAll("tr[data-key]")];
}

function rowOf(key) {
  return body.querySelector(`tr[data-key="${CSS.escape(key)}"]`);
}

// further pages

async function more(link) {
  const answer = await fetch(link.href);
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const row of page.querySelectorAll("table.runs tbody tr")) {
    if (!rowOf(row.dataset.key)) body.append(document.adoptNode(row));
  }
  const next = page.getElementById("next");
  if (next) link.href = next.href;
  else link.remove();
  return Boolean(next);
}

const link = document.getElementById("next");
if (link) {
  let loading = false;
  const near = new IntersectionObserver(async (entries) => {
    if (loading || !entries.some((entry) => entry.isIntersecting)) return;
    loading = true;
    try {
      if (await more(link)) {
        near.unobserve(link); // seen anew, it tells again whether it is near
        near.observe(link);
      }
    } catch {
      near.disconnect(); // the link still works
    }
    loading = false;
  }, { rootMargin: "800px" });
  near.observe(link);
}

// what changes

function place(row) {
  const old = rowOf(row.dataset.key);
  if (old) {
    const box = old.querySelector("input[type=checkbox]");
    row.querySelector("input[type=checkbox]").checked = box.checked;
    if (document.activeElement && old.contains(document.activeElement)) return false; // not under somebody's hands
    old.replaceWith(row);
    return false;
  }
  if (table.dataset.sort !== "-timestamp") return true;
  const after = [...body.rows].find((each) => each.dataset.timestamp <= row.dataset.timestamp);
  if (!after && document.getElementById("next")) return false; // it belongs to a page that is not here yet
  row.classList.add("new");
  body.insertBefore(row, after || null);
  return false;
}

function change(rows) {
  let unplaced = 0;
  for (const [key, html] of Object.entries(rows)) {
    if (html === null) rowOf(key)?.remove();
    else for (const row of rowsOf(html)) unplaced += place(row);
  }
  if (unplaced) news.textContent = "There are new runs: reload to see them in this order.";
}

async function look() {
  const url = new URL(table.dataset.live, location.href);
  if (url.searchParams.has("since")) url.searchParams.set("from", url.searchParams.get("since"));
  url.searchParams.set("since", table.dataset.token);
  const answer = await fetch(url, { cache: "no-store" });
  if (answer.status === 409) {
    news.textContent = "The index was made anew: reload to go on.";
    return false;
  }
  if (answer.ok) {
    const found = await answer.json();
    table.dataset.token = found.next;
    change(found.rows);
  }
  return true;
}

async function follow() {
  let going = true;
  if (!document.hidden) {
    try {
      going = await look();
      if (news.dataset.away) news.textContent = news.dataset.away = "";
    } catch {
      news.textContent = news.dataset.away = "The server does not answer.";
    }
  }
  if (going) setTimeout(follow, PAUSE);
}
setTimeout(follow, PAUSE);
