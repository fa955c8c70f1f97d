// Keeps the page of one run current: when the run's revision changes, the page is fetched again and shown in place.
"use strict";

const news = document.getElementById("news");
const PAUSE = 2000; // milliseconds between two looks

async function renew() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.statusText);
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement.getAttribute("href");
  const fresh = document.adoptNode(page.getElementById("run"));
  document.getElementById("run").replaceWith(fresh);
  if (focused) fresh.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

async function look() {
  const shown = document.getElementById("run").dataset;
  const answer = await fetch(shown.live, { cache: "no-cache" });
  if (!answer.ok) throw new Error(answer.statusText);
  const { rev } = await answer.json();
  if (rev !== null && String(rev) !== shown.rev) await renew();
  const told = rev === null ? "This run is gone." : "";
  if (news.textContent !== told) news.textContent = told;
}

follow(look, () => PAUSE);
