// The chat's half of the page. What the cmds mean is written at the top of main.py.
const SAY = 1, ONLINE = 2, NOTICE = 3, HISTORY = 4;
const MOST_LINES = 500; // older ones leave the page
const SAME_BREATH = 300; // seconds within which lines of one person stand together

const byId = (id) => document.getElementById(id);
const log = byId("log"), line = byId("line"), people = byId("people"), newer = byId("newer");
const rabbit = new RedRabbit();
let me = null; // the name the server knows us by
let last = null; // {from, at} of the newest line
let countdown = null;

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const element = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text; // never innerHTML: what others wrote stays text
  return node;
};

function face(name) {
  let hue = 0;
  for (const c of name) hue = (hue * 31 + c.codePointAt(0)) % 360;
  const node = element("span", "face", [...name][0].toUpperCase());
  node.style.setProperty("--hue", hue);
  node.setAttribute("aria-hidden", "true");
  return node;
}

// ---- the log ----

function atEnd() {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 60;
}

function add(node, follow) {
  const stay = !follow && !atEnd();
  log.querySelector(".empty")?.remove();
  log.append(node);
  while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
  if (stay) newer.hidden = false;
  else log.scrollTop = log.scrollHeight;
}

function addLine({ from, text, at }) {
  from = String(from);
  const item = element("li", "line");
  const more = last && last.from === from && at - last.at < SAME_BREATH;
  item.classList.toggle("more", Boolean(more));
  item.classList.toggle("mine", from === me);
  const who = element("span", "who");
  who.append(element("b", "", from), element("time", "", clock.format(at * 1000)));
  item.append(face(from), who, element("span", "text", text));
  last = { from, at };
  add(item, from === me);
  if (document.body.dataset.view !== "chat") byId("unread").hidden = false;
}

function addNotice(text, loud) {
  last = null;
  add(element("li", loud ? "notice loud" : "notice", text));
}

function clearLog() {
  log.replaceChildren(element("li", "empty", "Nothing said yet. Be the first."));
  last = null;
}

function showPeople(names) {
  people.hidden = false;
  people.replaceChildren(element("span", "count", `${names.length} online`));
  for (const name of names.map(String).sort((a, b) => a.localeCompare(b))) {
    const chip = element("span", name === me ? "person me" : "person");
    chip.append(face(name), name);
    people.append(chip);
  }
}

// ---- what the server says ----

function parsed(message) {
  try {
    return message.json();
  } catch {
    return message.text;
  }
}

rabbit.on(0, (message) => {
  const answer = parsed(message);
  if (answer.error) refuse(answer.error);
  else me = String(answer.name ?? me);
  showState();
});

// A script that sends plain lines (or HTML, as old chat clients expect) and bare lists works here as well.
rabbit.on(SAY, (message) => {
  const value = parsed(message);
  if (Array.isArray(value)) showPeople(value);
  else if (value && typeof value === "object") addLine(value);
  else addNotice(new DOMParser().parseFromString(String(value), "text/html").body.textContent, true);
});
rabbit.onJson(ONLINE, showPeople);
rabbit.onJson(NOTICE, ({ text }) => addNotice(text));
rabbit.onJson(HISTORY, (lines) => {
  if (!lines.length) return;
  clearLog();
  lines.forEach(addLine);
});

// ---- connection ----

function showState(detail) {
  clearInterval(countdown);
  const show = (kind, text) => {
    byId("state").dataset.state = kind;
    byId("state").lastElementChild.textContent = text;
  };
  const online = rabbit.state === "online";
  line.disabled = byId("send").disabled = !online;
  if (online) return show("online", me ? `online as ${me}` : "online");
  if (rabbit.state === "connecting") return show("connecting", "connecting …");
  if (!detail || detail.code === 1000) return show("offline", "not connected");
  if (detail.final) return show("lost", detail.reason);
  const until = Date.now() + detail.retryIn;
  const tick = () => {
    const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    show("waiting", `connection lost, next try in ${seconds} s`);
  };
  tick();
  countdown = setInterval(tick, 500);
}

function openDoor(open) {
  byId("door").hidden = !open;
  byId("leave").hidden = open;
  people.hidden = open || !people.childElementCount;
  if (open) byId("name").focus();
  else line.focus();
}

function refuse(text) {
  sessionStorage.removeItem("name");
  byId("refused").textContent = text;
  byId("refused").hidden = false;
  openDoor(true);
}

rabbit.on("connecting", () => showState());
rabbit.on("online", () => {
  showState();
  openDoor(false);
});
rabbit.on("offline", (detail) => {
  showState(detail);
  if (!detail.final || detail.code === 1000) return;
  if (!byId("refused").hidden) return;
  if (detail.code === 4001) refuse(`${me} came in again elsewhere: in another tab, perhaps.`);
  else refuse(`The connection was closed: ${detail.reason}.`);
});

function join(name) {
  byId("refused").hidden = true;
  me = name;
  clearLog();
  sessionStorage.setItem("name", name);
  rabbit.login(name);
}

byId("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  if (name) join(name);
});

byId("leave").addEventListener("click", () => {
  sessionStorage.removeItem("name");
  rabbit.close();
  byId("refused").hidden = true;
  openDoor(true);
});

// ---- writing ----

function fit() {
  line.style.height = "auto";
  line.style.height = `${line.scrollHeight + 2}px`;
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = line.value.trim();
  if (!text || !rabbit.send(SAY, [text])) return;
  line.value = "";
  fit();
  line.focus();
});
line.addEventListener("input", fit);
line.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

log.addEventListener("scroll", () => {
  if (atEnd()) newer.hidden = true;
});
newer.addEventListener("click", () => {
  log.scrollTop = log.scrollHeight;
});

// ---- which pane a narrow window shows ----

for (const tab of document.querySelectorAll(".views button")) {
  tab.addEventListener("click", () => {
    document.body.dataset.view = tab.dataset.show;
    for (const other of document.querySelectorAll(".views button")) {
      other.setAttribute("aria-selected", String(other === tab));
    }
    byId(tab.dataset.show === "chat" ? "unread" : "code-dot").hidden = true;
    if (tab.dataset.show === "chat") log.scrollTop = log.scrollHeight;
    document.dispatchEvent(new CustomEvent("view", { detail: tab.dataset.show }));
  });
}

clearLog();
showState();
const known = sessionStorage.getItem("name");
if (known) join(known);
else openDoor(true);
