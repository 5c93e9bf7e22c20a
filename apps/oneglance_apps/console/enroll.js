// Many photos to enroll: a list with a name and an outcome for each, sent four at the same time.
oneglance.enrolling = {
  photos: [], // {file, number, row, state: "waiting" | "sending" | "enrolled" | "refused"}
  numbered: 0,
  running: false,
  AT_ONCE: 4,
  MOST: 2000,

  choose(folder) {
    const accept = folder ? { webkitdirectory: true } : { multiple: true, accept: "image/*" };
    oneglance.choose(accept, (files) => oneglance.enrolling.add(files.map((file) => ({ file, path: file.webkitRelativePath || file.name }))));
  },

  // What was dropped, folders with all that is in them.
  async dropped(items) {
    const found = [];
    const walk = async (entry) => {
      if (entry.isFile) {
        const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
        found.push({ file, path: entry.fullPath.replace(/^\//, "") });
      } else {
        const reader = entry.createReader();
        for (;;) {
          const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
          if (!part.length) break;
          for (const one of part) await walk(one);
        }
      }
    };
    for (const entry of items) await walk(entry);
    this.add(found);
  },

  // The folder of a photo names its subject, or else the file does, without its suffix.
  nameOf(path) {
    const parts = path.split("/");
    return (parts.length > 1 ? parts.at(-2) : parts[0].replace(/\.[^.]+$/, "")).trim();
  },

  add(found) {
    const list = document.querySelector(".many-list");
    for (const { file, path } of found) {
      const isPicture = oneglance.suffixes.some((suffix) => file.name.toLowerCase().endsWith(suffix)) || file.type.startsWith("image/");
      if (file.name.startsWith(".") || !isPicture || this.photos.length >= this.MOST) continue;
      const photo = { file, number: this.numbered++, state: "waiting", row: document.createElement("li") };
      const image = Object.assign(document.createElement("img"), { alt: "", loading: "lazy", src: URL.createObjectURL(file) });
      image.onerror = () => image.classList.add("undrawn");
      const name = Object.assign(document.createElement("input"), { value: this.nameOf(path), dir: "auto", spellcheck: false });
      name.setAttribute("aria-label", oneglance.words.name_of.replace("{file}", file.name));
      name.oninput = () => photo.state === "refused" && this.mark(photo, "waiting");
      const told = document.createElement("div");
      told.className = "told";
      photo.row.append(image, name, told);
      Object.assign(photo, { name, told, image });
      list.append(photo.row);
      this.photos.push(photo);
      this.mark(photo, "waiting", { text: path });
    }
    this.count();
  },

  mark(photo, state, { text = "", next = "", warnings = [], several = false } = {}) {
    photo.state = state;
    photo.row.dataset.state = state;
    photo.name.disabled = state === "sending" || state === "enrolled";
    photo.told.replaceChildren();
    const say = (words, kind) => {
      const line = Object.assign(document.createElement("p"), { textContent: words, className: kind, dir: "auto" });
      if (words) photo.told.append(line);
    };
    say(text, state);
    say(next, "soft");
    for (const warning of warnings) say(warning, "warning");
    if (several) {
      const look = Object.assign(document.createElement("button"), { textContent: oneglance.words.choose_face, type: "button" });
      look.onclick = () => oneglance.lookAt(photo.file, photo.name.value);
      photo.told.append(look);
    }
    this.count();
  },

  count() {
    const of = (state) => this.photos.filter((photo) => photo.state === state).length;
    const [enrolled, refused, all] = [of("enrolled"), of("refused"), this.photos.length];
    const bar = document.querySelector(".many-bar");
    bar.hidden = !all;
    bar.querySelector("progress").value = all ? (enrolled + refused) / all : 0;
    bar.querySelector(".many-count").textContent = oneglance.words.progress
      .replace("{enrolled}", enrolled).replace("{refused}", refused).replace("{all}", all);
    bar.querySelector(".many-start").hidden = this.running;
    bar.querySelector(".many-start").disabled = enrolled === all;
    bar.querySelector(".many-stop").hidden = !this.running;
  },

  // Send what isn't enrolled yet.
  async start() {
    const waiting = this.photos.filter(({ state }) => state === "waiting" || state === "refused");
    this.running = true;
    this.count();
    const send = async () => {
      for (let photo = waiting.shift(); photo && this.running; photo = waiting.shift()) {
        this.mark(photo, "sending");
        const parameters = { name: photo.name.value, file: photo.file.name, number: photo.number };
        try {
          const answer = await fetch(oneglance.url("enroll", parameters), { method: "POST", body: photo.file });
          const { state, ...told } = await answer.json();
          this.mark(photo, state, told);
        } catch {
          this.mark(photo, "refused", { text: oneglance.words.lost, next: oneglance.words.lost_next });
        }
      }
    };
    await Promise.all(Array.from({ length: this.AT_ONCE }, send));
    this.running = false;
    this.count();
    await fetch(oneglance.url("enrolled"), { method: "POST" });
  },

  // Those under way end; the others wait until they are started again.
  stop() {
    this.running = false;
    this.count();
  },

  clear() {
    this.stop();
    for (const { image, row } of this.photos) {
      URL.revokeObjectURL(image.src);
      row.remove();
    }
    this.photos = [];
    this.count();
  },
};
