// Keeps the home page current: fetches the page again and again, and shows it in place when it changed.
"use strict";

const news = document.getElementById("news");
const PAUSE = 5000; // milliseconds between two looks
let tag = "";

async function look() {
  const answer = await fetch(location.href, { cache: "no-cache" });
  if (!answer.ok) throw new Error(answer.statusText);
  const now = answer.headers.get("ETag");
  const shown = document.getElementById("home");
  if (now !== tag && (tag || "counting" in shown.dataset) && !shown.contains(document.activeElement)) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    shown.replaceWith(document.adoptNode(page.getElementById("home")));
  }
  tag = now;
  if (news.textContent) news.textContent = "";
}

follow(look, () => ("counting" in document.getElementById("home").dataset ? PAUSE / 10 : PAUSE));
