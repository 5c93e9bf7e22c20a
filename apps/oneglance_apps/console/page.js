// Pictures: each is sent to the console as the raw body of a request, and shown from the browser's own copy.
const oneglance = {
  page: "", // set by page.py: the id of this page in requests
  suffixes: [], // set by page.py: of picture files
  shown: null, // object URL of the photo
  painted: null, // object URL of the picture to stylize
  sending: null, // AbortController of its upload
  words: {}, // set by page.py: in the language of the page

  url(what, parameters = {}) {
    return `/pages/${oneglance.page}/${what}?${new URLSearchParams(parameters)}`;
  },

  choose(attributes, then) {
    const input = Object.assign(document.createElement("input"), { type: "file", ...attributes });
    input.onchange = () => then([...input.files]);
    input.style.display = "none";
    document.querySelectorAll("body > input[type=file]").forEach((old) => old.remove());
    document.body.append(input);
    input.click();
  },

  choosePhoto() {
    oneglance.choose({ accept: "image/*" }, ([file]) => file && oneglance.look(file));
  },

  // Show a photo, and let the console identify its faces.
  async look(photo) {
    const stage = document.querySelector(".stage");
    const picture = stage.querySelector("img");
    if (oneglance.shown) URL.revokeObjectURL(oneglance.shown);
    oneglance.shown = URL.createObjectURL(photo);
    stage.dataset.state = "looking";
    document.documentElement.style.setProperty("--photo", `url("${oneglance.shown}")`);
    picture.onerror = () => document.body.classList.add("undrawn");
    picture.onload = () => {
      document.body.classList.remove("undrawn");
      stage.style.setProperty("--ratio", picture.naturalWidth / picture.naturalHeight);
      stage.style.setProperty("--natural", `${picture.naturalWidth}px`);
      document.documentElement.style.setProperty("--smooth", picture.naturalWidth < 160 ? "pixelated" : "auto");
    };
    picture.src = oneglance.shown;
    try {
      await fetch(oneglance.url("photo"), { method: "POST", body: photo });
    } finally {
      stage.dataset.state = "seen";
    }
  },

  // Look at a photo of several faces, one of which is to be enrolled under this name.
  async lookAt(photo, name) {
    await fetch(oneglance.url("named", { name }), { method: "POST" });
    await oneglance.look(photo);
  },

  choosePicture() {
    oneglance.choose({ accept: "image/*" }, ([file]) => file && oneglance.paint(file));
  },

  // Show a picture, and let the console stylize it.
  async paint(picture) {
    const before = document.querySelector(".before");
    const image = before.querySelector("img");
    if (oneglance.painted) URL.revokeObjectURL(oneglance.painted);
    oneglance.painted = URL.createObjectURL(picture);
    image.onerror = () => (before.dataset.state = "undrawn");
    image.onload = () => (before.dataset.state = "shown");
    image.src = oneglance.painted;
    oneglance.sending?.abort(); // or a large picture could arrive after the next one
    oneglance.sending = new AbortController();
    const { signal } = oneglance.sending;
    try {
      await fetch(oneglance.url("picture", { name: picture.name ?? "" }), { method: "POST", body: picture, signal });
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  },

  // Take a picture with the camera.
  async takePhoto(refuse, then = oneglance.look) {
    if (!navigator.mediaDevices) {
      return refuse(oneglance.words.no_camera_here);
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } } });
    } catch (error) {
      return refuse(oneglance.words.no_camera.replace("{reason}", error.message));
    }
    const dialog = document.createElement("dialog");
    dialog.className = "camera";
    dialog.innerHTML =
      "<video autoplay playsinline muted></video>" +
      "<form method=dialog><button value=take></button><button value=cancel></button></form>";
    for (const button of dialog.querySelectorAll("button")) button.textContent = oneglance.words[button.value];
    const video = dialog.querySelector("video");
    video.srcObject = stream;
    dialog.onclose = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
      if (dialog.returnValue === "take" && canvas.width) {
        canvas.getContext("2d").drawImage(video, 0, 0);
        canvas.toBlob((photo) => then(photo), "image/jpeg", 0.95);
      }
      stream.getTracks().forEach((track) => track.stop());
      dialog.remove();
    };
    document.body.append(dialog);
    dialog.showModal();
  },

  // Send a folder of PERSON/*.jpg, four pictures at the same time.
  chooseProbes(mated) {
    oneglance.choose({ webkitdirectory: true }, async (files) => {
      const pictures = files.filter(({ name }) => !name.startsWith(".") && oneglance.suffixes.some((s) => name.toLowerCase().endsWith(s)));
      const send = async () => {
        for (let file = pictures.shift(); file; file = pictures.shift()) {
          const folders = file.webkitRelativePath.split("/").slice(0, -1);
          // A stranger's picture directly in the chosen folder shows a person of its own.
          const person = mated || folders.length > 1 ? folders.at(-1) : "";
          await fetch(oneglance.url("probe", { person, mated: mated ? 1 : 0 }), { method: "POST", body: file });
        }
      };
      await fetch(oneglance.url("measure", { pictures: pictures.length }), { method: "POST" });
      await Promise.allSettled([send(), send(), send(), send()]);
      await fetch(oneglance.url("measured"), { method: "POST" });
    });
  },
};

for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault(); // or the browser opens the file instead of the page
    document.body.classList.toggle("dragging", type === "dragenter" || type === "dragover");
    const files = [...event.dataTransfer.files];
    if (type !== "drop" || !files.length) return;
    const seen = (part) => document.querySelector(part)?.offsetParent;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const several = files.length > 1 || entries.some((entry) => entry.isDirectory);
    if (seen(".stylize")) return oneglance.paint(files[0]);
    if (!several && !seen(".many")) return oneglance.look(files[0]);
    if (!seen(".many")) fetch(oneglance.url("many"), { method: "POST" }); // shows the tab
    if (entries.length) oneglance.enrolling.dropped(entries);
    else oneglance.enrolling.add(files.map((file) => ({ file, path: file.name })));
  });
}

// What nobody will see needn't be painted. Not by sendBeacon: its origin would be "null".
addEventListener("pagehide", () => fetch(oneglance.url("left"), { method: "POST", keepalive: true }));
