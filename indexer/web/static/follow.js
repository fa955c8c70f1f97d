// Polls while a page is visible, and says there if the server does not answer.
"use strict";

// `pause` gives the milliseconds until the next look
function follow(look, pause) {
  async function turn() {
    if (!document.hidden) {
      try {
        await look();
      } catch {
        document.getElementById("news").textContent = "The server does not answer.";
      }
    }
    setTimeout(turn, pause());
  }
  setTimeout(turn, pause());
}
