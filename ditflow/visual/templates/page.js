
"use strict";
// One clock for all videos in sight; the others hold no data. The longest of them is the loop, shorter ones wait at their end for it.
const by = id => document.getElementById(id);
const clock = { playing: !matchMedia("(prefers-reduced-motion: reduce)").matches, at: 0, speed: 1, before: performance.now() };
const sight = new Set();
const DRIFT = 0.08; // seconds that a playing video may be off

const loop = () => Math.max(0, ...[...sight].map(video => video.duration || 0));
const target = video => Math.min(clock.at, Math.max(0, video.duration - 0.001));

const enter = video => {
  if (sight.has(video)) return;
  sight.add(video);
  video.src = video.dataset.src;
};
const leave = video => {
  if (!sight.delete(video)) return;
  video.removeAttribute("src");
  video.load();
};

const follow = video => {
  if (!(video.duration > 0) || video.seeking) return;
  const off = Math.abs(video.currentTime - target(video)), atEnd = clock.at >= video.duration - 0.02, runs = clock.playing && !atEnd;
  if (off > (runs ? DRIFT * Math.max(1, clock.speed) : 0.004)) video.currentTime = target(video);
  if (video.playbackRate !== clock.speed) video.playbackRate = clock.speed;
  if (runs && video.paused) video.play().catch(() => {});
  if (!runs && !video.paused) video.pause();
};

const films = (video, length) => {
  for (const picture of video.closest("figure").querySelectorAll(".film img")) {
    const tiles = Number(picture.dataset.tiles), tile = Math.min(tiles - 1, Math.floor(clock.at / (video.duration || length) * tiles));
    picture.style.transform = `translateX(${-100 * tile / tiles}%)`;
  }
};

const show = length => {
  by("toggle").textContent = clock.playing ? "Pause" : "Play";
  by("time").max = length || 1;
  by("time").value = clock.at;
  by("clock").textContent = length ? `${clock.at.toFixed(2)} / ${length.toFixed(2)} s` : "";
};

const tick = now => {
  const passed = Math.min(now - clock.before, 250) / 1000, length = loop();
  clock.before = now;
  if (clock.playing && length) clock.at = (clock.at + passed * clock.speed) % length;
  for (const video of sight) { follow(video); films(video, length); }
  show(length);
  requestAnimationFrame(tick);
};

const sort = header => {
  const rows = header.closest("table").tBodies[0], column = header.cellIndex;
  const up = header.getAttribute("aria-sort") === "descending" || (header.ariaSort === null && column === 0);
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => {
    const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim(); // a number, or a word
    return text === "" || text === "–" ? null : row.cells[column].dataset.value === undefined ? text : Number(text);
  };
  const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  const keyed = [...rows.rows].map(row => [key(row), row]);
  keyed.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : up ? order(a, b) : order(b, a));
  rows.append(...keyed.map(([, row]) => row));
};

const filter = () => {
  const words = by("find").value.toLowerCase().split(/\s+/).filter(Boolean), kind = by("kind") ? by("kind").value : "";
  const off = new Set([...document.querySelectorAll(".choose input:not(:checked)")].map(box => box.value));
  let found = 0;
  for (const section of document.querySelectorAll("section")) {
    const heading = section.querySelector("h2").textContent;
    const groups = [...section.querySelectorAll(".group")];
    for (const group of groups) {
      const text = [heading, ...[...group.querySelectorAll("h3, .note")].map(part => part.textContent)].join(" ").toLowerCase();
      group.hidden = (kind && group.dataset.kind !== kind) || !words.every(word => text.includes(word));
    }
    section.hidden = groups.every(group => group.hidden);
    found += !section.hidden;
    for (const panel of section.querySelectorAll(".panels .panel")) panel.hidden = off.has(panel.dataset.label);
  }
  by("found").textContent = words.length || kind ? `${found} of ${document.querySelectorAll("section").length} clips` : "";
};

const observer = new IntersectionObserver(entries => entries.forEach(entry => (entry.isIntersecting ? enter : leave)(entry.target)), { rootMargin: "150px" });
document.querySelectorAll("video").forEach(video => observer.observe(video));
document.querySelectorAll("thead th").forEach(header => header.addEventListener("click", () => sort(header)));
by("toggle").addEventListener("click", () => { clock.playing = !clock.playing; });
by("time").addEventListener("input", event => { clock.playing = false; clock.at = Number(event.target.value); });
by("speed").addEventListener("change", event => { clock.speed = Number(event.target.value); });
for (const id of ["find", "kind"]) if (by(id)) by(id).addEventListener("input", filter);
document.querySelectorAll(".choose input").forEach(box => box.addEventListener("input", filter));
document.addEventListener("click", event => document.querySelectorAll(".choose[open]").forEach(menu => menu.contains(event.target) || menu.removeAttribute("open")));
requestAnimationFrame(tick);
