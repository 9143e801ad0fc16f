// What every page has: elements, numbers as text, tables, downloads, light and dark.
// Text from files reaches the document through text nodes and attributes alone, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.getElementById("main");
const FILTERED = 30; // rows, above which a table has a filter
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
    else if (value !== null && value !== undefined && value !== false)
      element.setAttribute(key, String(value));
  }
  element.append(
    ...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false),
  );
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
  return value === null || value === undefined || Number.isNaN(value)
    ? "n/a"
    : (100 * value).toFixed(1) + " %";
}

function probability(value) {
  if (value === null || value === undefined) return "n/a";
  return value < 0.0001 ? "< 0.0001" : value.toPrecision(2);
}

function plural(value, word) {
  return `${count(value)} ${word}${value === 1 ? "" : "s"}`;
}

/** Whether a number is there: JSON has null for what is undefined. */
function isKnown(value) {
  return value !== null && value !== undefined;
}

/** A panel: a section with its heading, and a link of one word to it in the page's contents. */
function panel(id, link, heading, note, ...children) {
  contents.append(make("a", { href: "#" + id }, link));
  const section = make(
    "section",
    { class: "card", id, "aria-labelledby": id + "-heading" },
    make(
      "header",
      {},
      make("h2", { id: id + "-heading" }, heading),
      note ? make("p", { class: "note" }, note) : null,
    ),
    ...children,
  );
  main.append(section);
  return section;
}

/** A table. `columns` are {name, number, head}; rows are lists of text or nodes. */
function table(caption, columns, rows) {
  return make(
    "table",
    {},
    make("caption", { class: "hidden" }, caption),
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        columns.map((column) =>
          make("th", { scope: "col", class: column.number ? "number" : null }, column.name),
        ),
      ),
    ),
    make(
      "tbody",
      {},
      rows.map((row) =>
        make(
          "tr",
          {},
          row.map((cell, i) =>
            make(
              columns[i].head ? "th" : "td",
              {
                scope: columns[i].head ? "row" : null,
                class: columns[i].number ? "number" : columns[i].head ? "name" : null,
              },
              cell,
            ),
          ),
        ),
      ),
    ),
  );
}

/**
 * A table whose headings sort it, and a field that filters it by name.
 * `columns` are {name, key, number}, of which the first names the row; `rows` have a `name` and their place `k`;
 * `cells` makes the cells of a row behind its name, and `choose`, if any, is called with the place of a row.
 */
function sortableTable(caption, columns, rows, { sort, cells, choose = null }) {
  const heads = columns.map((column) =>
    make(
      "th",
      { scope: "col", class: column.number ? "number" : null },
      column.key
        ? make("button", { type: "button", class: "plain", onclick: () => order(column) }, column.name)
        : column.name,
    ),
  );
  const lines = rows.map((row) =>
    make(
      "tr",
      { "data-class": row.k, onclick: choose && (() => choose(row.k)) },
      make(
        "th",
        { scope: "row", class: "name" },
        choose
          ? make("button", { type: "button", class: "plain", "aria-pressed": "false" }, row.name)
          : row.name,
      ),
      cells(row).map((cell, i) => make("td", { class: columns[i + 1].number ? "number" : null }, cell)),
    ),
  );
  const body = make("tbody", {});
  const filter = make("input", {
    type: "search",
    placeholder: "Filter by name",
    "aria-label": `Filter: ${caption}`,
    oninput: fill,
  });
  function order(column) {
    sort = { key: column.key, sign: sort.key === column.key ? -sort.sign : column.number ? -1 : 1 };
    fill();
  }
  function fill() {
    const text = filter.value.trim().toLowerCase();
    const shown = rows.filter((row) => row.name.toLowerCase().includes(text));
    shown.sort((a, b) => compareValues(a[sort.key], b[sort.key], sort.sign) || a.k - b.k);
    body.replaceChildren(...shown.map((row) => lines[row.k]));
    columns.forEach((column, i) => {
      if (column.key === sort.key)
        heads[i].setAttribute("aria-sort", sort.sign < 0 ? "descending" : "ascending");
      else heads[i].removeAttribute("aria-sort");
    });
  }
  fill();
  const whole = make(
    "table",
    {},
    make("caption", { class: "hidden" }, caption),
    make("thead", {}, make("tr", {}, heads)),
    body,
  );
  return {
    lines,
    parts: [
      rows.length > FILTERED ? make("div", { class: "bar" }, filter) : null,
      scrolling(caption, whole, "scroll tall"),
    ],
  };
}

/** Order of two values; undefined ones come last. */
function compareValues(a, b, sign) {
  if (!isKnown(a) || !isKnown(b)) return isKnown(a) ? -1 : isKnown(b) ? 1 : 0;
  return sign * (typeof a === "string" ? (a < b ? -1 : a > b ? 1 : 0) : a - b);
}

/** A table behind a chart, for those who read numbers, by eye or by ear. */
function tableBehind(caption, columns, rows) {
  return make(
    "details",
    {},
    make("summary", {}, caption + " as a table"),
    scrolling(caption, table(caption, columns, rows)),
  );
}

/** What may be wider or taller than its place, and can be scrolled by keys too. */
function scrolling(label, child, kind = "scroll") {
  return make("div", { class: kind, tabindex: 0, role: "group", "aria-label": label + ", scrolls" }, child);
}

/** Buttons of which one is pressed; `choose` is called with the value of the next. */
function choices(label, options, value, choose) {
  const buttons = options.map((option) =>
    make(
      "button",
      {
        type: "button",
        class: "button",
        "aria-pressed": String(option.value === value),
        onclick: () => press(option.value),
      },
      option.name,
    ),
  );
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

/** The remarks of a page, and what was left out of it to fit its size. */
function remarkList(remarks) {
  const all = data.omitted.length
    ? [...remarks, `To fit its size, this page has not: ${data.omitted.join("; ")}.`]
    : remarks;
  return all.length
    ? make(
        "section",
        { class: "callout", "aria-label": "Read before you quote it" },
        make("span", { class: "strong" }, "Read before you quote it."),
        make(
          "ul",
          {},
          all.map((text) => make("li", {}, text)),
        ),
      )
    : "";
}

/** The last panel: versions, inputs, the command line, and all numbers to download. */
function showOrigin(...children) {
  const { upmap, numpy, inputs, command: words } = data.view.provenance;
  const command = copyable("Command line", words);
  panel(
    "made",
    "Origin",
    "How this was made",
    `upmap ${upmap}, numpy ${numpy}`,
    make(
      "div",
      { class: "bar" },
      button(
        "Download all numbers (JSON)",
        () => download("report.json", JSON.stringify(data.report, null, 1) + "\n", "application/json"),
        { id: "download" },
      ),
      command.copy,
    ),
    command.area,
    scrolling(
      "Inputs",
      table(
        "Inputs",
        [{ name: "Input", head: true }, { name: "Path" }, { name: "Digest of" }, { name: "SHA-256" }],
        inputs.map((row) => [row.name, row.path, row.of, make("code", {}, row.sha256)]),
      ),
    ),
    ...children,
  );
  main.append(
    make("footer", {}, "Drawn by upmap from the data in this file. It asks the network for nothing."),
  );
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document
    .getElementById("theme")
    .setAttribute("aria-label", theme === "dark" ? "Light or dark: now dark" : "Light or dark: now light");
}

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
setTheme(prefersDark.matches ? "dark" : "light");
prefersDark.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));
document
  .getElementById("theme")
  .addEventListener("click", () =>
    setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"),
  );
// On paper, everything is unfolded, and light.
let screenTheme = null;
addEventListener("beforeprint", () => {
  screenTheme = document.documentElement.dataset.theme;
  setTheme("light");
  for (const details of document.querySelectorAll("details")) details.open = true;
});
addEventListener("afterprint", () => setTheme(screenTheme));
