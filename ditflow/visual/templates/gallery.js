
"use strict";
const by = id => document.getElementById(id);
const root = document.documentElement, list = by("cards");
const cards = [...list.children].map((node, place) => ({ node, place, text: node.querySelector(".told").textContent.toLowerCase() }));
const write = (node, text) => { if (node.textContent !== text) node.textContent = text; }; // what stays must not be written: it would be read aloud again

const filter = () => {
  const words = by("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const { node, text } of cards) {
    const shown = words.every(word => text.includes(word));
    found += shown;
    if (node.hidden === shown) node.hidden = !shown;
  }
  write(by("found"), words.length ? `${found} of ${cards.length} entries` : `${cards.length} ${cards.length === 1 ? "entry" : "entries"}`);
};

const sort = () => {
  const chosen = by("order").selectedOptions[0], turned = by("turn").getAttribute("aria-pressed") === "true";
  const sign = (chosen.dataset.down !== undefined) === turned ? 1 : -1;
  const keyed = cards.map(card => [chosen.value === "" ? card.place : card.node.dataset[chosen.value] === "" ? null : Number(card.node.dataset[chosen.value]), card]);
  keyed.sort(([a, one], [b, other]) => a === null || b === null ? (a === null) - (b === null) : sign * (a - b) || one.place - other.place);
  list.append(...keyed.map(([, card]) => card.node));
};

const play = playing => {
  root.classList.toggle("playing", playing);
  root.classList.toggle("paused", !playing);
  write(by("toggle"), playing ? "Pause" : "Play");
};

const copy = async button => {
  const code = button.parentNode.querySelector("code");
  getSelection().selectAllChildren(code); // to copy by hand where the browser does not let us
  try {
    await navigator.clipboard.writeText(code.textContent);
    write(button, "Copied");
  } catch {
    write(button, "Selected");
  }
  setTimeout(() => write(button, "Copy"), 2000);
};

by("find").addEventListener("input", filter);
by("order").addEventListener("change", sort);
by("turn").addEventListener("click", () => { by("turn").setAttribute("aria-pressed", by("turn").getAttribute("aria-pressed") !== "true"); sort(); });
by("toggle").addEventListener("click", () => play(root.classList.contains("paused")));
list.addEventListener("click", event => { const button = event.target.closest(".command button"); if (button) copy(button); });
document.addEventListener("keydown", event => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && event.target !== by("find")) { event.preventDefault(); by("find").focus(); }
});
new ResizeObserver(([{ target }]) => root.style.setProperty("--bar", `${target.offsetHeight}px`)).observe(document.querySelector(".bar"));
play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
filter();
if (by("order").value) sort(); // a browser may keep what was chosen when the page is loaded again
