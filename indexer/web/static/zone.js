// Times are in the visitor's zone: a cookie tells the server, which reads times and groups days in it.
"use strict";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone && navigator.cookieEnabled && !document.cookie.split("; ").includes(`zone=${encodeURIComponent(zone)}`)) {
  document.cookie = `zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; SameSite=Lax`;
  if (document.cookie.includes("zone=")) location.reload();
}
