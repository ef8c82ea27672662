// The code's half of the page: the scene's script over the gate's editor interface (net/PROTOCOL.md, section 8).
// It shows only with a token in the address (#token=…), which the server prints when it starts.
const CODEMIRROR = "/codemirror/";
const SCRIPTS = ["lib/codemirror.js", "mode/python/python.js", "addon/edit/matchbrackets.js", "addon/edit/closebrackets.js",
  "addon/selection/active-line.js", "addon/comment/comment.js", "addon/dialog/dialog.js", "addon/search/searchcursor.js",
  "addon/search/search.js"];
const STYLES = ["lib/codemirror.css", "addon/dialog/dialog.css"];

const byId = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const mac = /Mac|iP(hone|ad)/.test(navigator.platform);
let editor = null; // {get, set, on, mark, unmark, jump, refresh}
let saved = ""; // the text as the server has it
let etag = "";
let wrongLine = 0;
let busy = false;

// ---- two kinds of editor, one face ----

function load(tag, attributes) {
  return new Promise((resolve, reject) => {
    const node = Object.assign(document.createElement(tag), attributes);
    node.onload = resolve;
    node.onerror = () => reject(new Error(`no ${attributes.src || attributes.href}`));
    document.head.append(node);
  });
}

async function codeMirror(parent) {
  await Promise.all(STYLES.map((file) => load("link", { rel: "stylesheet", href: CODEMIRROR + file })));
  for (const file of SCRIPTS) await load("script", { src: CODEMIRROR + file });
  const cm = window.CodeMirror(parent, {
    mode: "python", theme: "rr", lineNumbers: true, indentUnit: 4, matchBrackets: true, autoCloseBrackets: true,
    styleActiveLine: true, inputStyle: "contenteditable", screenReaderLabel: "The scene's Python", viewportMargin: 30,
    extraKeys: {
      Tab: (it) => (it.somethingSelected() ? it.indentSelection("add") : it.execCommand("insertSoftTab")),
      "Shift-Tab": "indentLess",
      Backspace: "delCharBefore",
      [mac ? "Cmd-/" : "Ctrl-/"]: "toggleComment",
    },
  });
  let mark = null, note = null;
  const unmark = () => {
    if (mark) for (const where of ["background", "gutter"]) cm.removeLineClass(mark, where);
    note?.clear();
    mark = note = null;
  };
  return {
    get: () => cm.getValue(),
    set: (text) => {
      cm.setValue(text);
      cm.clearHistory();
    },
    on: (change) => cm.on("change", change),
    unmark,
    mark: (number, text) => {
      unmark();
      mark = cm.getLineHandle(number - 1);
      if (!mark) return;
      cm.addLineClass(mark, "background", "wrong");
      cm.addLineClass(mark, "gutter", "wrong-gutter");
      const node = document.createElement("div");
      node.className = "wrong-note";
      node.textContent = text;
      note = cm.addLineWidget(mark, node, { coverGutter: false });
    },
    jump: (number) => {
      cm.setCursor(number - 1, 0);
      cm.scrollIntoView({ line: number - 1, ch: 0 }, 120);
      cm.focus();
    },
    refresh: () => cm.refresh(),
  };
}

function plainField(parent) {
  const field = document.createElement("textarea");
  field.spellcheck = false;
  field.wrap = "off";
  field.setAttribute("aria-label", "The scene's Python");
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Tab" || event.shiftKey || event.ctrlKey || event.altKey) return;
    event.preventDefault();
    field.setRangeText("    ", field.selectionStart, field.selectionEnd, "end");
    field.dispatchEvent(new Event("input"));
  });
  parent.append(field);
  return {
    get: () => field.value,
    set: (text) => {
      field.value = text;
    },
    on: (change) => field.addEventListener("input", change),
    unmark: () => {},
    mark: () => {},
    jump: (number) => {
      const before = field.value.split("\n").slice(0, number - 1).join("\n").length;
      const start = number > 1 ? before + 1 : 0;
      const end = field.value.indexOf("\n", start);
      field.focus();
      field.setSelectionRange(start, end < 0 ? field.value.length : end);
      field.scrollTop = Math.max(0, (number - 6) * (field.scrollHeight / field.value.split("\n").length));
    },
    refresh: () => {},
  };
}

// ---- what the person sees ----

function verdict(kind, title, text = "", number = 0) {
  byId("verdict").dataset.kind = kind;
  byId("verdict-title").textContent = title;
  byId("verdict-text").textContent = text;
  byId("verdict-text").hidden = !text;
  byId("jump").hidden = !number;
  byId("jump").textContent = `line ${number}`;
  wrongLine = number;
  if (kind === "bad" && document.body.dataset.view !== "code") byId("code-dot").hidden = false;
}

function showDirty() {
  const dirty = editor.get() !== saved;
  byId("dirty").hidden = !dirty;
  byId("save").disabled = busy || !dirty;
  byId("reload").disabled = busy;
  byId("reload").textContent = dirty ? "Save & reload" : "Reload";
  return dirty;
}

// The innermost place of the traceback that lies in the script itself, and what it says.
function place(error) {
  const file = byId("file").textContent.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  let number = 0;
  for (const match of error.matchAll(new RegExp(`File "(?:[^"]*/)?${file}", line (\\d+)`, "g"))) number = Number(match[1]);
  return { number, summary: error.trimEnd().split("\n").pop() };
}

// ---- the server ----

async function ask(method, what, options = {}) {
  const answer = await fetch(`/editor/${what}?token=${encodeURIComponent(token)}`, { method, cache: "no-store", ...options });
  if (answer.ok || answer.status === 412) return answer;
  const text = await answer.text();
  let reason = text || answer.statusText;
  try {
    reason = JSON.parse(text).error || reason;
  } catch {
    // a plain text says enough
  }
  // To who has another token, as after a restart, the interface does not exist.
  if (answer.status === 404 || answer.status === 405) {
    reason = "the server does not know this token: open the address that it printed at its start";
  }
  throw new Error(reason);
}

async function fetchScript() {
  const answer = await ask("GET", "script");
  etag = answer.headers.get("ETag");
  byId("file").textContent = answer.headers.get("X-Script-Name") || "main.py";
  saved = await answer.text();
  return saved;
}

async function save() {
  const text = editor.get();
  verdict("busy", "Saving …");
  const headers = { "If-Match": etag, "Content-Type": "text/x-python; charset=utf-8" };
  let answer = await ask("PUT", "script", { headers, body: text });
  if (answer.status === 412) {
    if (!confirm("The file has changed on the server since you opened it. Overwrite it with yours?")) {
      verdict("bad", "Not saved: the file has changed on the server. Reload the page to see it.");
      return false;
    }
    answer = await ask("PUT", "script", { headers: { ...headers, "If-Match": "*" }, body: text });
  }
  etag = answer.headers.get("ETag");
  saved = text;
  verdict("good", "Saved. The old code serves until you reload.");
  return true;
}

async function reload() {
  verdict("busy", "Loading …");
  const { ok, error, version } = await (await ask("POST", "reload")).json();
  byId("version").hidden = !version;
  byId("version").textContent = `version ${version}`;
  if (ok) {
    editor.unmark();
    verdict("good", `Version ${version} serves. Nobody had to reconnect.`);
    return;
  }
  const { number, summary } = place(error);
  verdict("bad", version ? `Not loaded; version ${version} goes on serving.` : "Not loaded.", error, number);
  if (number) {
    editor.mark(number, summary);
    editor.jump(number);
  }
}

async function run(...steps) {
  if (busy) return;
  busy = true;
  showDirty();
  try {
    for (const step of steps) if ((await step()) === false) break;
  } catch (error) {
    verdict("bad", error instanceof TypeError ? "The server does not answer." : `That did not work: ${error.message}.`);
  }
  busy = false;
  showDirty();
}

const saveIfNeeded = () => (editor.get() !== saved ? save() : true);

// ---- the splitter ----

function setWidth(fraction) {
  const width = Math.min(0.75, Math.max(0.25, fraction));
  byId("code").style.setProperty("--code-width", `${(width * 100).toFixed(1)}%`);
  localStorage.setItem("code-width", String(width));
  editor?.refresh();
}

function splitter() {
  const handle = byId("splitter");
  const area = handle.parentElement;
  const at = (x) => (area.getBoundingClientRect().right - x) / area.clientWidth;
  handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
  handle.addEventListener("pointermove", (event) => handle.hasPointerCapture(event.pointerId) && setWidth(at(event.clientX)));
  handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 0.03, ArrowRight: -0.03 }[event.key];
    if (step) setWidth(byId("code").offsetWidth / area.clientWidth + step);
  });
  const width = Number(localStorage.getItem("code-width"));
  if (width) setWidth(width);
}

async function start() {
  document.body.classList.add("with-code");
  byId("code").hidden = byId("splitter").hidden = false;
  splitter();
  let text;
  try {
    text = await fetchScript();
  } catch (error) {
    for (const id of ["save", "reload"]) byId(id).disabled = true;
    verdict("bad", `The script cannot be edited: ${error.message}.`);
    return;
  }
  editor = await codeMirror(byId("editor")).catch(() => plainField(byId("editor")));
  editor.set(text);
  editor.on(() => {
    showDirty();
    if (byId("verdict").dataset.kind === "good") verdict("idle", "Edited.");
  });
  showDirty();
  document.addEventListener("view", () => editor.refresh());
  byId("save").addEventListener("click", () => run(save));
  byId("reload").addEventListener("click", () => run(saveIfNeeded, reload));
  byId("jump").addEventListener("click", () => editor.jump(wrongLine));
  addEventListener("keydown", (event) => {
    if (!(mac ? event.metaKey : event.ctrlKey)) return;
    if (event.key === "s") run(saveIfNeeded);
    else if (event.key === "Enter" && byId("code").contains(event.target)) run(saveIfNeeded, reload);
    else return;
    event.preventDefault();
  });
  addEventListener("beforeunload", (event) => {
    if (editor.get() !== saved) event.preventDefault();
  });
}

if (token) start();
addEventListener("hashchange", () => location.reload());
