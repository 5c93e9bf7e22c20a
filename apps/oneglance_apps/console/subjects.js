// The table of subjects: only the rows in view are in the document. They are fetched from the console as they are needed.
oneglance.subjects = {
  ROW: 48, // pixels, as in page.css
  BLOCK: 100, // rows that are fetched at once
  search: 0,
  length: 0,
  known: new Map(),
  asked: new Set(),

  get box() {
    return document.querySelector(".subjects");
  },

  show(search, length, keepPlace) {
    Object.assign(this, { search, length, known: new Map(), asked: new Set() });
    const box = this.box;
    if (!box) return;
    box.style.maxHeight = `${42 + length * this.ROW}px`;
    if (!keepPlace) box.scrollTop = 0;
    box.onscroll = () => requestAnimationFrame(() => this.draw());
    // While the tab is hidden the table has no height.
    this.seen ??= new ResizeObserver(() => this.draw());
    this.seen.observe(box);
    this.draw();
  },

  draw() {
    const box = this.box;
    const body = box.querySelector("tbody");
    const first = Math.max(0, Math.floor(box.scrollTop / this.ROW) - 8);
    const last = Math.min(this.length, first + Math.ceil(box.clientHeight / this.ROW) + 16);
    for (let block = Math.floor(first / this.BLOCK); box.clientHeight && block * this.BLOCK < last; block++) this.fetch(block);
    const rows = [this.space(first)];
    for (let number = first; number < last; number++) rows.push(this.row(number));
    rows.push(this.space(this.length - last));
    const focused = document.activeElement?.closest?.(".subjects tr");
    const place = focused && [focused.ariaRowIndex, document.activeElement.className];
    box.querySelector("table").ariaRowCount = this.length + 1;
    body.replaceChildren(...rows);
    if (place) body.querySelector(`tr[aria-rowindex="${place[0]}"] .${place[1]}`)?.focus({ preventScroll: true });
  },

  space(rows) {
    const space = document.createElement("tr");
    space.className = "space";
    space.ariaHidden = "true";
    space.style.height = `${Math.max(0, rows) * this.ROW}px`;
    return space;
  },

  row(number) {
    const row = document.createElement("tr");
    row.ariaRowIndex = number + 2;
    const subject = this.known.get(number);
    const cell = (kind, text) => {
      const made = document.createElement("td");
      made.className = kind;
      const inner = Object.assign(document.createElement("div"), { textContent: text, title: text, dir: "auto" });
      made.append(inner);
      row.append(made);
      return made;
    };
    for (const kind of ["id", "labels", "encodings", "negatives", "enrolled", "changed"]) cell(kind, subject?.[kind] || "");
    const act = document.createElement("td");
    act.className = "act";
    for (const [name, kind] of subject ? [["change", "change"], ["delete", "gone"]] : []) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: kind, textContent: oneglance.words[name] });
      button.setAttribute("aria-label", `${oneglance.words[name]}: ${subject.id}`);
      button.onclick = () => emitEvent(`${name}_subject`, subject.id);
      act.append(button);
    }
    row.append(act);
    return row;
  },

  async fetch(block) {
    const { search, asked } = this;
    if (asked.has(block)) return;
    asked.add(block);
    const from = block * this.BLOCK;
    const answer = await fetch(oneglance.url("subjects", { search, start: from, end: from + this.BLOCK }));
    if (!answer.ok || search !== this.search) return;
    const found = await answer.json();
    if (search !== this.search) return;
    this.length = found.length;
    found.rows.forEach((row, i) => this.known.set(from + i, row));
    this.draw();
  },
};
