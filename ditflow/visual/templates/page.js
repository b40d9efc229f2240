
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

const write = (node, text) => { if (node.textContent !== text) node.textContent = text; }; // what stays must not be written: it would be read aloud again

const show = length => {
  write(by("toggle"), clock.playing ? "Pause" : "Play");
  by("time").max = length || 1;
  by("time").value = clock.at;
  write(by("clock"), length ? `${clock.at.toFixed(2)} / ${length.toFixed(2)} s` : "");
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

const sections = [...document.querySelectorAll("section")];
const kinds = [...document.querySelectorAll(".kinds input")];

const filter = () => {
  const words = by("find").value.toLowerCase().split(/\s+/).filter(Boolean), kind = kinds.find(box => box.checked)?.value;
  const off = new Set([...document.querySelectorAll(".choose input:not(:checked)")].map(box => box.value));
  for (const section of sections) {
    const heading = section.querySelector("h2").textContent;
    const groups = [...section.querySelectorAll(".group")];
    for (const group of groups) {
      const text = [heading, ...[...group.querySelectorAll("h3, .note")].map(part => part.textContent)].join(" ").toLowerCase();
      group.hidden = (kind && group.dataset.kind !== kind) || !words.every(word => text.includes(word));
    }
    section.hidden = groups.every(group => group.hidden);
    for (const panel of section.querySelectorAll(".panels .panel")) panel.hidden = off.has(panel.dataset.label);
    foresee(section, groups.filter(group => !group.hidden));
  }
  const found = sections.filter(section => !section.hidden).length;
  write(by("found"), found < sections.length ? `${found} of ${sections.length} clips` : "");
};

const foresee = (section, groups) => { // its height, before it is laid out
  section.style.setProperty("--groups", groups.length);
  section.style.setProperty("--panels", Math.max(0, ...groups.map(group => group.querySelectorAll(".panel:not([hidden])").length)));
};

const reveal = id => { // where a link leads, even if that is filtered out: by words, or as another kind of prompt
  const place = document.getElementById(id);
  if (!place) return;
  if (place.closest("[hidden]")) { by("find").value = ""; filter(); }
  if (place.closest("[hidden]")) {
    for (const box of kinds) box.checked = box.value === (place.dataset.kind ?? "");
    filter();
  }
  settle(place, 10);
};

const settle = (place, frames) => { // what is above it may be laid out only now, and be a little higher or lower than foreseen
  place.scrollIntoView();
  if (frames) requestAnimationFrame(() => settle(place, frames - 1));
};

const named = hash => decodeURIComponent(hash.slice(1));
const here = entries => { // the clip in the upper part of the window is the chosen one
  for (const { target, isIntersecting } of entries) if (isIntersecting || by("clip").value === target.id) by("clip").value = isIntersecting ? target.id : "";
};

const observer = new IntersectionObserver(entries => entries.forEach(entry => (entry.isIntersecting ? enter : leave)(entry.target)), { rootMargin: "150px" });
document.querySelectorAll("video").forEach(video => observer.observe(video));
document.querySelectorAll("thead th").forEach(header => header.addEventListener("click", () => sort(header)));
by("toggle").addEventListener("click", () => { clock.playing = !clock.playing; });
by("time").addEventListener("input", event => { clock.playing = false; clock.at = Number(event.target.value); });
by("speed").addEventListener("change", event => { clock.speed = Number(event.target.value); });
document.querySelectorAll("#find, .kinds input, .choose input").forEach(input => input.addEventListener("input", filter));
by("clip").append(...sections.map(section => new Option(section.querySelector("h2").textContent, section.id)));
by("clip").addEventListener("change", event => reveal(event.target.value));
document.addEventListener("click", event => { const link = event.target.closest("a[href^='#']"); if (link) reveal(named(link.hash)); });
addEventListener("hashchange", () => reveal(named(location.hash)));
document.addEventListener("click", event => document.querySelectorAll(".choose[open]").forEach(menu => menu.contains(event.target) || menu.removeAttribute("open")));
new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--bar", `${target.offsetHeight}px`)).observe(document.querySelector(".player"));
const upper = new IntersectionObserver(here, { rootMargin: "-30% 0px -69% 0px" });
sections.forEach(section => upper.observe(section));
filter();
reveal(named(location.hash));
requestAnimationFrame(tick);
