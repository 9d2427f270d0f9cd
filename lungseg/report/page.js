// Sorts tables, and scrolls through the slices that lie in the page. Nothing is ever loaded from elsewhere.
"use strict";
(() => {
  const get = (id) => document.getElementById(id);

  // A table is sorted by the button of a column: by number where cells have one, missing ones last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
      const compare = (one, two) => {
        const [a, b] = [value(one), value(two)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = head.classList.contains("n") ? a - b : a.localeCompare(b, "en", { numeric: true });
        return down ? -order : order;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    }));
  }

  const look = get("look");
  if (!look) return;
  const screen = get("screen"), picture = get("picture").getContext("2d"), drawn = get("outlines").getContext("2d");
  const choice = get("patient"), slider = get("slice"), strip = get("strip").getContext("2d");
  const side = drawn.canvas.width;
  let data = null, at = 0, turn = 0;

  const window_ = () => Number(look.querySelector("input[name=window]:checked").value);
  const truthOn = () => get("show-truth")?.checked ?? false;

  function outline(path, colour, width, dash) {
    const scaled = new Path2D();
    scaled.addPath(new Path2D(path), new DOMMatrix([side / data.side[0], 0, 0, side / data.side[1], 0, 0]));
    drawn.setLineDash(dash);
    drawn.lineWidth = width;
    drawn.strokeStyle = colour;
    drawn.stroke(scaled);
  }

  // First the dark rims, then the lines: where both run together, the blue shows between the orange dashes.
  function outlines(truth, found) {
    drawn.clearRect(0, 0, side, side);
    const shown = [truthOn() && truth, get("show-found").checked && found];
    for (const path of shown) if (path) outline(path, "rgba(0, 0, 0, .55)", 8, []);
    if (shown[0]) outline(shown[0], "#56b4e9", 4, []);
    if (shown[1]) outline(shown[1], "#d55e00", 4, [16, 10]);
  }

  function draw() {
    const [z, lung, mediastinum, truth, found] = data.slices[at];
    const source = window_() ? mediastinum : lung, mine = ++turn;
    const paint = (image) => {
      if (mine !== turn) return; // another slice was asked for meanwhile
      picture.fillRect(0, 0, picture.canvas.width, picture.canvas.height);
      if (image) picture.drawImage(image, 0, 0, picture.canvas.width, picture.canvas.height);
      outlines(truth, found);
      screen.dataset.z = z;
    };
    if (source) {
      const image = new Image();
      image.onload = () => paint(image);
      image.src = "data:image/webp;base64," + source;
    } else paint(null);
    get("unseen").hidden = Boolean(source);
    get("number").textContent = `slice ${z}`;
    slider.value = at;
    const said = (name, path) => `${name}: ${path ? "tumour here" : "none here"}`;
    const words = `Slice ${z}, of 0 (feet) to ${data.depth - 1} (head). ` +
      (data.labelled ? said("Truth", truth) + ". " : "") + said("Network", found) + ".";
    get("where").textContent = words;
    slider.setAttribute("aria-valuetext", words);
  }

  function go(to) {
    if (!data) return;
    at = Math.max(0, Math.min(data.slices.length - 1, to));
    draw();
  }

  function nearest(z) {
    let best = 0;
    data.slices.forEach((slice, i) => {
      if (Math.abs(slice[0] - z) < Math.abs(data.slices[best][0] - z)) best = i;
    });
    return best;
  }

  // Marks below the picture: where along the scan each of the two has tumour.
  function mark() {
    const { width, height } = strip.canvas, step = width / data.slices.length;
    strip.clearRect(0, 0, width, height);
    data.slices.forEach((slice, i) => [[3, "#56b4e9", 0], [4, "#d55e00", height / 2]].forEach(([field, colour, top]) => {
      strip.fillStyle = slice[field] ? colour : "rgba(128, 128, 128, .25)";
      strip.fillRect(i * step, top + 1, Math.max(step - 0.5, 1), height / 2 - 2);
    }));
  }

  function open(number, z) {
    const option = choice.options[number];
    choice.selectedIndex = number;
    const holder = get(`case-${option.value}`), beside = get("beside");
    beside.hidden = Boolean(holder);
    get("inside").hidden = !holder;
    get("why").textContent = option.dataset.why ?? "";
    if (!holder) {
      data = null;
      beside.querySelector("a").href = option.dataset.file + (z === undefined ? "" : `#${z}`);
      return;
    }
    data = JSON.parse(holder.textContent);
    slider.max = data.slices.length - 1;
    const first = z ?? Number(option.dataset.z);
    mark();
    go(nearest(first));
  }

  const nextOutlined = (step) => {
    const shown = (i) => (data.slices[i][3] && truthOn()) || data.slices[i][4];
    let i = at + step;
    while (data.slices[i] && !shown(i)) i += step;
    if (data.slices[i]) go(i);
  };
  const flip = (box) => { if (box) { box.checked = !box.checked; draw(); } };

  choice.addEventListener("change", () => open(choice.selectedIndex));
  slider.addEventListener("input", () => go(Number(slider.value)));
  look.addEventListener("change", (event) => { if (event.target.matches("input:not([type=range])")) draw(); });
  get("down").addEventListener("click", () => go(at - 1));
  get("up").addEventListener("click", () => go(at + 1));
  get("previous").addEventListener("click", () => nextOutlined(-1));
  get("next").addEventListener("click", () => nextOutlined(1));

  const keys = {
    ArrowUp: () => go(at + 1), ArrowRight: () => go(at + 1), ArrowDown: () => go(at - 1), ArrowLeft: () => go(at - 1),
    PageUp: () => go(at + 10), PageDown: () => go(at - 10), Home: () => go(0), End: () => go(Infinity),
    t: () => flip(get("show-truth")), p: () => flip(get("show-found")), n: () => nextOutlined(1),
    w: () => { look.querySelectorAll("input[name=window]")[1 - window_()].checked = true; draw(); },
  };
  screen.addEventListener("keydown", (event) => {
    const act = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act || !data || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });

  let rolled = 0;
  screen.addEventListener("wheel", (event) => {
    if (!data || event.ctrlKey) return;
    rolled += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(rolled / 40);
    // At either end the page scrolls on, so that nobody is caught in the picture.
    const to = Math.max(0, Math.min(data.slices.length - 1, at - steps));
    if (!steps || to !== at) event.preventDefault();
    if (!steps) return;
    rolled -= steps * 40;
    if (to !== at) go(to);
  }, { passive: false });

  // A finger or the mouse, drawn sideways, leafs through the slices; up and down still moves the page.
  let from = null;
  screen.addEventListener("pointerdown", (event) => { from = { x: event.clientX, at }; screen.setPointerCapture(event.pointerId); });
  screen.addEventListener("pointermove", (event) => { if (from && data) { const to = from.at + Math.round((event.clientX - from.x) / 7); if (to !== at) go(to); } });
  for (const end of ["pointerup", "pointercancel"]) screen.addEventListener(end, () => { from = null; });

  // The browser's own way to "#look" would take the focus from the picture, and with it the keys.
  for (const link of document.querySelectorAll("[data-case]")) link.addEventListener("click", (event) => {
    event.preventDefault();
    open(Number(link.dataset.case), link.dataset.z === undefined ? undefined : Number(link.dataset.z));
    look.scrollIntoView();
    (data ? screen : get("beside").querySelector("a")).focus({ preventScroll: true });
  });

  const asked = Number.parseInt(location.hash.slice(1), 10);
  open(0, Number.isNaN(asked) ? undefined : asked);
})();
