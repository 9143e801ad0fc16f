// What every page has: elements, numbers as text, tables, downloads, light and dark.
// Text from files reaches the document through text nodes and attributes alone, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const contents = document.getElementById("contents");

/** An element with properties and children; `on*` are listeners, `class` and all others attributes. */
function make(name, properties = {}, ...children) {
  return furnish(document.createElement(name), properties, children);
}

/** The same of SVG. */
function draw(name, properties = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}

function furnish(element, properties, children) {
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, String(value));
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A number with `digits` decimals; what is undefined is n/a. */
function number(value, digits = 3) {
  return value === null || value === undefined ? "n/a" : value.toFixed(digits);
}

/** A difference, with its sign. */
function signed(value, digits = 3) {
  if (value === null || value === undefined) return "n/a";
  const text = Math.abs(value).toFixed(digits);
  return (value < 0 && Number(text) !== 0 ? "\u2212" : "+") + text;
}

function count(value) {
  return value === null || value === undefined ? "n/a" : String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

function percent(value) {
  return value === null || value === undefined || Number.isNaN(value) ? "n/a" : (100 * value).toFixed(1) + " %";
}

function probability(value) {
  if (value === null || value === undefined) return "n/a";
  return value < 0.0001 ? "< 0.0001" : value.toPrecision(2);
}

function plural(value, word, ending = "s") {
  return `${count(value)} ${word}${value === 1 ? "" : ending}`;
}

/** Whether a number is there: JSON has null for what is undefined. */
function isKnown(value) {
  return value !== null && value !== undefined;
}

/** A panel: a section with its heading, and a link to it in the page's contents. */
function panel(id, heading, note, ...children) {
  contents.append(make("a", { href: "#" + id }, heading));
  const section = make(
    "section", { class: "card", id, "aria-labelledby": id + "-heading" },
    make("header", {}, make("h2", { id: id + "-heading" }, heading), note ? make("p", { class: "note" }, note) : null),
    ...children,
  );
  main.append(section);
  return section;
}

/** A table. `columns` are {name, number, head}; rows are lists of text or nodes. */
function table(caption, columns, rows) {
  return make(
    "table", {},
    make("caption", { class: "hidden" }, caption),
    make("thead", {}, make("tr", {}, columns.map((column) => make("th", { scope: "col", class: column.number ? "number" : null }, column.name)))),
    make("tbody", {}, rows.map((row) => make("tr", {}, row.map((cell, i) => make(
      columns[i].head ? "th" : "td",
      { scope: columns[i].head ? "row" : null, class: columns[i].number ? "number" : columns[i].head ? "name" : null }, cell,
    ))))),
  );
}

/** A table behind a chart, for those who read numbers, by eye or by ear. */
function tableBehind(caption, columns, rows) {
  return make("details", {}, make("summary", {}, caption + " as a table"), scrolling(caption, table(caption, columns, rows)));
}

/** What may be wider or taller than its place, and can be scrolled by keys too. */
function scrolling(label, child, kind = "scroll") {
  return make("div", { class: kind, tabindex: 0, role: "group", "aria-label": label + ", scrolls" }, child);
}

/** Buttons of which one is pressed; `choose` is called with the value of the next. */
function choices(label, options, value, choose) {
  const buttons = options.map((option) => make("button", {
    type: "button", class: "button", "aria-pressed": String(option.value === value), onclick: () => press(option.value),
  }, option.name));
  function press(next) {
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(options[i].value === next)));
    choose(next);
  }
  const group = make("div", { class: "bar", role: "group", "aria-label": label }, buttons);
  return { group, press };
}

function button(text, onclick, properties = {}) {
  return make("button", { type: "button", class: "button", onclick, ...properties }, text);
}

/** Saves a text as a file, without a server. */
function download(name, text, type) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Text for the clipboard, shown so that it can also be read and copied by hand. */
function copyable(label, text) {
  const area = make("pre", { tabindex: 0, role: "group", "aria-label": label }, text);
  const copy = button("Copy", () => {
    const range = document.createRange();
    range.selectNodeContents(area);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    if (navigator.clipboard) navigator.clipboard.writeText(area.textContent).catch(() => {});
  });
  return { area, copy };
}

/** A cell of CSV; what a spreadsheet would take for a formula is quoted as text. */
function csvCell(value) {
  const text = isKnown(value) ? String(value) : "";
  const safe = /^[=+@\t\r-]/.test(text) && Number.isNaN(Number(text)) ? "'" + text : text;
  return /[",\n\r]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").setAttribute("aria-label", theme === "dark" ? "Light or dark: now dark" : "Light or dark: now light");
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
setTheme(prefersDark.matches ? "dark" : "light");
prefersDark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
document.getElementById("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
addEventListener("beforeprint", () => {
  setTheme("light");
  for (const details of document.querySelectorAll("details")) details.open = true;
});
