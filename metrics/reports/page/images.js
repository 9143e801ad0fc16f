// The images that cost most, with their boxes; and the annotations to look at.

const PAGE = 24; // images that are shown at a time

/** A picture: the thumbnail where there is one, else a gray field of its aspect, with boxes over it. */
function picture(image, place, { pick = null, title = null } = {}) {
  const [width, height] = image.size;
  const boxes = image.boxes.map(([kind, , , , x, y, w, h], i) => draw("rect", {
    x, y, width: Math.max(0, w), height: Math.max(0, h), class: `box ${["true", "false", "missed"][kind]}`, "data-box": i,
  }));
  // Found boxes are drawn first, so that the others lie over them.
  const svg = draw("svg", { class: "picture", viewBox: `0 0 ${width} ${height}`, role: title ? "img" : null, "aria-label": title, "aria-hidden": title ? null : "true" },
    image.thumbnail ? draw("image", { href: image.thumbnail, width, height, preserveAspectRatio: "none" }) : null, boxes.reverse());
  if (pick) svg.addEventListener("pointerover", (event) => pick(event.target.dataset.box ?? null));
  return svg;
}

function tally(image) {
  const totals = [0, 0, 0];
  for (const [kind] of image.boxes) totals[kind] += 1;
  return `${totals[2]} missed \u00b7 ${totals[1]} false \u00b7 ${totals[0]} found`;
}

function legend() {
  return make("p", { class: "legend key" }, ["true", "false", "missed"].map((kind, i) => make("span", {},
    draw("svg", { viewBox: "0 0 22 14", "aria-hidden": "true" }, draw("rect", { x: 2, y: 2, width: 18, height: 10, class: "box " + kind })), KIND_NAMES[i])));
}

function showImages() {
  const costs = result.worst_images.images.slice(0, view.images.length);
  const images = view.images.map((image, i) => ({ ...image, place: i, name: String(costs[i].image), cost: costs[i].cost }));
  const errorKeys = view.errors.map((error) => error.key);
  let kind = "all";
  let limit = PAGE;
  let shown = [];
  const grid = make("ul", { class: "images" });
  const status = make("p", { class: "note", role: "status", id: "shown" });
  const more = button("More", () => { limit = shown.length; fill(); });
  const errorSelect = make("select", { "aria-label": "Kind of error", onchange: () => change({ error: errorSelect.value || null }) },
    make("option", { value: "" }, "any error"), errorKeys.map((key) => make("option", { value: key }, ERROR_NAMES[key])));
  const classSelect = make("select", { "aria-label": "Class", onchange: () => change({ class: classSelect.value === "" ? null : Number(classSelect.value) }) },
    make("option", { value: "" }, "all classes"), classNames.map((name, k) => make("option", { value: k }, name)));
  const kinds = choices("Kind of box", [{ value: "all", name: "All" }, { value: 2, name: "Missed" }, { value: 1, name: "False alarms" }, { value: 0, name: "Found" }], "all", (next) => { kind = next; limit = PAGE; fill(); });

  function matches(image) {
    if (kind === "all" && state.class === null && state.error === null) return true;
    return image.boxes.some(([each, error, label_]) => (kind === "all" || each === kind) && (state.class === null || label_ === state.class)
      && (state.error === null || errorKeys[error] === state.error));
  }
  function fill() {
    shown = images.filter(matches);
    errorSelect.value = state.error ?? "";
    classSelect.value = state.class ?? "";
    grid.replaceChildren(...shown.slice(0, limit).map((image, i) => make("li", {}, make("button", { type: "button", "data-place": image.place, onclick: () => viewer.open(shown, i), onkeydown: (event) => step(event, i) },
      picture(image), make("span", { class: "caption" }, make("span", { class: "mono" }, image.name), `costs ${(100 * image.cost).toFixed(3)} \u00b7 ${tally(image)}`)))));
    status.textContent = `${Math.min(limit, shown.length)} of ${plural(shown.length, "image")}`;
    more.hidden = shown.length <= limit;
  }
  /** Arrow keys move between images; a row is as wide as the grid has columns. */
  function step(event, i) {
    const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    const next = by && grid.children[i + by];
    if (!next) return;
    event.preventDefault();
    next.firstChild.focus();
  }
  const viewer = makeViewer();
  kinds.group.append(classSelect, errorSelect);
  panel("images", "Images that cost most", `in points of ${result.worst_images.metric}, to first order; boxes from a score of ${number(explanation.operating_points.threshold, 4)} on`,
    images.length ? [kinds.group, legend(), status, grid, make("div", { class: "bar", style: "margin:12px 0 0" }, more)] : make("p", { class: "note" }, "There are no images to show."));
  onChange(() => { limit = PAGE; fill(); });
}

/** The dialog with one image: boxes and their table; arrow keys go on to the next image. */
function makeViewer() {
  let list = [];
  let at = 0;
  const heading = make("h2", { id: "viewer-heading" });
  const body = make("div", { class: "viewer" });
  const dialog = make("dialog", { "aria-labelledby": "viewer-heading" },
    make("div", { class: "bar" }, button("Previous", () => go(-1)), button("Next", () => go(1)), button("Close", () => dialog.close())), heading, body);
  document.body.append(dialog);
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, j: 1, k: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    go(by);
  });
  function go(by) {
    at = (at + by + list.length) % list.length;
    const image = list[at];
    heading.textContent = image.name;
    const figure = picture(image, at, { title: `${image.name}: ${tally(image)}`, pick: mark });
    const rows = image.boxes.map(([kind, error, label_, score]) => [KIND_NAMES[kind], classNames[label_], number(score), error < 0 || kind === 2 ? "" : ERROR_NAMES[view.errors[error].key]]);
    const list_ = table("Boxes of the image", [{ name: "Outcome", head: true }, { name: "Class" }, { name: "Score", number: true }, { name: "Error" }], rows);
    Array.from(list_.tBodies[0].rows).forEach((row, i) => row.addEventListener("pointerenter", () => mark(i)));
    const left_out = image.count > image.boxes.length ? make("p", { class: "note" }, `${count(image.count - image.boxes.length)} more boxes are left out.`) : null;
    body.replaceChildren(make("div", {}, figure, legend(), make("p", { class: "note" }, `costs ${(100 * image.cost).toFixed(3)} points \u00b7 image ${at + 1} of ${list.length} \u00b7 arrow keys for the next`)), make("div", {}, scrolling("Boxes", list_, "scroll tall"), left_out));
    function mark(place) {
      for (const box of figure.querySelectorAll("[data-box]")) box.classList.toggle("current", place !== null && Number(box.dataset.box) === Number(place));
      Array.from(list_.tBodies[0].rows).forEach((row, i) => row.classList.toggle("selected", place !== null && i === Number(place)));
    }
  }
  return { open(images, place) { list = images; at = place; go(0); dialog.showModal(); } };
}

const LABEL_LISTS = {
  missing: "May be missing", wrong_class: "May have the wrong class", loose_box: "Box may be loose", doubtful: "May not be there",
};

function showLabels() {
  const candidates = result.label_candidates;
  const keys = Object.keys(LABEL_LISTS);
  const chosen = new Set(); // "list:place"
  const holder = make("div", {});
  const status = make("p", { class: "note", role: "status", id: "chosen" });
  let current = keys[0];
  const tabs = choices("Lists of annotations", keys.map((key) => ({ value: key, name: `${LABEL_LISTS[key]} (${count(candidates.counts[key])})` })), current, (key) => { current = key; fill(); });
  function fill() {
    const rows = candidates[current].map((row, place) => ({ row, id: `${current}:${place}` }))
      .filter(({ row }) => state.class === null || row.label === classNames[state.class] || row.annotated_label === classNames[state.class]);
    const columns = [{ name: "Check" }, { name: "Image", head: true }, { name: "Detected" }, { name: "Score", number: true }, { name: "Annotated" }, { name: "Annotation", number: true }, { name: "IoU", number: true }];
    holder.replaceChildren(rows.length ? scrolling(LABEL_LISTS[current], table(LABEL_LISTS[current], columns, rows.map(({ row, id }) => [
      make("input", { type: "checkbox", "aria-label": `Check ${row.image}`, checked: chosen.has(id), onchange: (event) => toggle(id, event.target.checked) }),
      String(row.image), row.label ?? "", number(row.score), row.annotated_label ?? "", row.annotation ?? "", row.iou ? number(row.iou, 2) : "",
    ])), "scroll tall") : make("p", { class: "note" }, "None."));
  }
  function toggle(id, isChosen) {
    if (isChosen) chosen.add(id);
    else chosen.delete(id);
    tell();
  }
  function tell() {
    status.textContent = `${plural(chosen.size, "annotation")} chosen; without any, all are saved.`;
  }
  function list() {
    return keys.flatMap((key) => candidates[key].map((row, place) => ({ list: key, place, ...row }))).filter((row) => !chosen.size || chosen.has(`${row.list}:${row.place}`));
  }
  function saveCsv() {
    const columns = ["list", "image", "label", "score", "annotation", "annotated_label", "iou", "box", "annotated_box"];
    const lines = [columns, ...list().map((row) => columns.map((column) => Array.isArray(row[column]) ? row[column].join(" ") : row[column]))];
    download("labels.csv", lines.map((cells) => cells.map(csvCell).join(",")).join("\n") + "\n", "text/csv");
  }
  function saveCoco() {
    const ids = new Map(classNames.map((name, k) => [name, k + 1]));
    const images = [...new Set(list().map((row) => row.image))];
    const numbers = new Map(images.map((image, i) => [image, typeof image === "number" ? image : i + 1]));
    const annotations = list().map((row, i) => {
      const [x1, y1, x2, y2] = row.annotated_box || row.box;
      const name = row.annotated_label || row.label;
      return { id: row.annotation ?? -(i + 1), image_id: numbers.get(row.image), category_id: ids.get(name), bbox: [x1, y1, x2 - x1, y2 - y1], area: (x2 - x1) * (y2 - y1), iscrowd: 0, score: row.score, check: row.list };
    });
    const text = JSON.stringify({ images: images.map((image) => ({ id: numbers.get(image), file_name: String(image) })), categories: classNames.map((name, k) => ({ id: k + 1, name })), annotations }, null, 1);
    download("labels.json", text + "\n", "application/json");
  }
  panel("labels", "Labels to check", "where a detector that is usually right disagrees with the annotation",
    tabs.group, holder, status, make("div", { class: "bar" }, button("Save as CSV", saveCsv), button("Save as COCO JSON", saveCoco)));
  tell();
  onChange(fill);
}
