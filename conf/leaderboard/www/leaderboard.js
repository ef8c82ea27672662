// The page of the leaderboard: what the cmds mean stands at the top of main.py.
const SCORE = 1, TOP = 2, ERROR = 3;
const REPLACED = 4001, REFUSED = 4002; // why a connection ends; the latter's answer has come before
const find = (id) => document.getElementById(id);
let rabbit = null, me = "";

function say(error) {
  find("error").textContent = error || "";
}

function inside(on) {
  find("door").hidden = on;
  find("game").hidden = !on;
}

function showTop(rows) {
  find("top").replaceChildren(...rows.map(([name, best], i) => {
    const row = document.createElement("tr");
    row.className = name === me ? "me" : "";
    for (const text of [`${i + 1}. ${name}`, best]) row.insertCell().textContent = text;
    return row;
  }));
}

function answered(answer) {
  if (answer.error) return say(answer.error);
  me = answer.name;
  find("who").textContent = me;
  find("best").textContent = answer.best;
  say("");
  inside(true);
}

function scored({ score, best }) {
  find("rolled").textContent = `You rolled ${score}.`;
  find("best").textContent = best;
}

function connect(register) {
  if (!find("door").reportValidity()) return;
  rabbit?.close();
  rabbit = new RedRabbit();
  rabbit.on(0, (message) => answered(message.json()));
  rabbit.on(SCORE, (message) => scored(message.json()));
  rabbit.on(TOP, (message) => showTop(message.json()));
  rabbit.on(ERROR, (message) => say(message.json().error));
  rabbit.on("offline", ({ code, reason, retryIn }) => {
    if (code !== REFUSED) say(code === REPLACED ? "You have logged in somewhere else." : retryIn ? `${reason}: trying again …` : reason);
    if (!retryIn) inside(false);
  });
  const key = { name: find("name").value, password: find("password").value };
  rabbit.login(JSON.stringify(register ? { ...key, register: true } : key));
}

find("door").addEventListener("submit", (event) => {
  event.preventDefault();
  connect(false);
});
find("register").addEventListener("click", () => connect(true));
find("roll").addEventListener("click", () => {
  const dice = Array.from({ length: 5 }, () => 1 + Math.floor(Math.random() * 6));
  rabbit.send(SCORE, dice.reduce((sum, n) => sum + n, 0));
});
