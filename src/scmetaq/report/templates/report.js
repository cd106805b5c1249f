// The table of all metacells is searched and sorted here; metacells on the map are named.
(() => {
  const { columns, rows, places } = JSON.parse(document.getElementById("data").textContent);
  const section = document.getElementById("metacells");
  const [search, status, more] = ["input", "[role=status]", ".more"].map((of) => section.querySelector(of));
  const body = section.querySelector("tbody");
  const heads = [...section.querySelectorAll("thead th")];
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const texts = rows.map((row) => row.filter((value) => typeof value === "string").join("\n").toLowerCase());
  const STEP = 50;
  let only = -1, by = -1, sign = 1, order = rows.map((_, i) => i), found = order, nShown = STEP;

  const make = (tag, text, parent) => {
    const element = document.createElement(tag);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const count = (value) => value.toLocaleString("en");
  const show = (value, kind) => {
    if (value === null) return "–";
    if (kind === "text") return value;
    if (kind === "count") return count(value);
    return value === 0 || Math.abs(value) >= 0.01 ? value.toFixed(3) : value.toPrecision(2);
  };
  const cell = (tr, value, i) => {
    const kind = columns[i][1];
    const td = make(i ? "td" : "th", show(value, kind), tr);
    if (!i) td.scope = "row";
    td.className = kind === "text" ? (i && value === "dubious" ? "warn" : "") : "number";
  };

  const draw = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = only >= 0 ? [only] : order.filter((i) => words.every((word) => texts[i].includes(word)));
    const fragment = document.createDocumentFragment();
    for (const i of found.slice(0, nShown)) {
      const tr = make("tr", "", fragment);
      rows[i].forEach((value, column) => cell(tr, value, column));
    }
    body.replaceChildren(fragment);
    const n = Math.min(nShown, found.length);
    const of = words.length ? `${count(found.length)} found of ${count(rows.length)}` : `${count(rows.length)} metacells`;
    status.textContent = n < found.length ? `${of}, the first ${count(n)} shown` : of;
    more.hidden = n === found.length;
    more.textContent = `Show ${count(Math.min(10 * STEP, found.length - n))} more`;
  };
  const sort = (column) => {
    // up, down, and back to the order in which to look at them
    [by, sign] = by !== column ? [column, 1] : sign > 0 ? [column, -1] : [-1, 1];
    order = rows.map((_, i) => i);
    if (by >= 0) {
      const difference = columns[by][1] === "text" ? compare : (a, b) => a - b;
      order.sort((i, j) => {
        const [a, b] = [rows[i][by], rows[j][by]];
        if (a === null || b === null) return (a === null) - (b === null);
        return sign * difference(a, b);
      });
    }
    heads.forEach((head, i) =>
      i === by ? head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort"));
    nShown = STEP;
    draw();
  };
  const find = (text, i = -1) => {
    only = i; // a metacell of the map, and not those whose names begin like its name
    search.value = text;
    nShown = STEP;
    draw();
  };

  heads.forEach((head, i) => {
    const name = head.textContent;
    head.textContent = "";
    const button = make("button", name, head);
    button.type = "button";
    button.onclick = () => sort(i);
  });
  search.oninput = () => find(search.value);
  more.onclick = () => {
    nShown += 10 * STEP;
    draw();
  };
  search.parentElement.hidden = false;
  draw();

  const paper = document.querySelector("#cells .paper");
  const image = paper.querySelector("img");
  const ring = make("div", "", paper), tip = make("div", "", paper.parentElement);
  ring.className = "ring";
  tip.className = "tip";
  const nearest = (event) => {
    const box = image.getBoundingClientRect();
    let best = -1, least = 14 ** 2; // pixels within which a metacell is meant
    places.forEach(([x, y], i) => {
      if (x === null) return;
      const distance = (box.left + x * box.width - event.clientX) ** 2 + (box.top + y * box.height - event.clientY) ** 2;
      if (distance < least) [best, least] = [i, distance];
    });
    return best;
  };
  const point = (event) => {
    const i = nearest(event);
    ring.hidden = tip.hidden = i < 0;
    if (i < 0) return;
    const left = image.offsetLeft + places[i][0] * image.offsetWidth;
    const top = image.offsetTop + places[i][1] * image.offsetHeight;
    tip.textContent = "";
    make("strong", rows[i][0], tip);
    columns.forEach(([name, kind], column) => {
      if (column && rows[i][column] !== null) make("div", rows[i][column] === name ? name : `${name}: ${show(rows[i][column], kind)}`, tip);
    });
    Object.assign(ring.style, { left: `${left}px`, top: `${top}px` });
    const right = paper.clientWidth - tip.offsetWidth - 4;
    tip.style.left = `${Math.max(4, Math.min(left - paper.scrollLeft + 14, right))}px`;
    tip.style.top = `${top + 16}px`;
  };
  paper.onpointermove = paper.onpointerdown = point;
  const hide = () => { ring.hidden = tip.hidden = true; };
  paper.onscroll = hide;
  paper.onpointerleave = (event) => event.pointerType === "mouse" && hide();
  paper.onpointerup = (event) => {
    const i = event.pointerType === "mouse" ? nearest(event) : -1;
    if (i < 0) return;
    find(rows[i][0], i);
    section.scrollIntoView({ behavior: "smooth" });
  };
  hide();
})();
