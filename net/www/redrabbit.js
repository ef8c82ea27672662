/* RedRabbit's JavaScript client: no dependencies, every current browser (and Node with a global WebSocket).
 *
 *   <script src="/redrabbit.js"></script>          or          import "/redrabbit.js";
 *
 *   const rabbit = new RedRabbit();                 // the page's own host; or new RedRabbit("ws://host:port/")
 *   rabbit.on(1, (message) => show(message.text));  // a cmd's messages: .cmd .text .bytes .json()
 *   rabbit.on("online", () => rabbit.send(1, ["hello"]));
 *   rabbit.on("offline", ({ code, reason, retryIn }) => …);
 *   rabbit.login("alice");                          // connects, logs in, and does both again after a lost connection
 *
 * Both ways of loading it define globalThis.RedRabbit. The protocol is described in net/PROTOCOL.md.
 */
(function () {
  "use strict";

  const encoder = new TextEncoder();
  const decoder = new TextDecoder();
  const HEADER = 8;
  const STABLE_MS = 5000; // a connection that lived this long starts the back-off anew
  const REASONS = {
    1001: "the server is stopping", 1002: "protocol error", 1006: "connection lost", 1007: "invalid text",
    1009: "message too big", 1013: "too many connections", 4001: "logged in elsewhere", 4002: "login refused", 4003: "closed by the server",
    4004: "idle", 4005: "login timed out", 4006: "too many messages", 4007: "queue full",
    4008: "reading too slowly", 4009: "the scene is gone",
  };
  const FINAL = new Set([1002, 1007, 1009, 4001, 4002, 4003]); // trying again would end the same way

  /** One message from the server; the body is decoded when it is asked for. */
  class Message {
    constructor(cmd, body) {
      this.cmd = cmd;
      this.body = body; // string, or Uint8Array if it came in a binary frame
    }
    get text() {
      return typeof this.body === "string" ? this.body : decoder.decode(this.body);
    }
    get bytes() {
      return typeof this.body === "string" ? encoder.encode(this.body) : this.body;
    }
    json() {
      return JSON.parse(this.text);
    }
  }

  function parseText(data) {
    const first = /^cmd:(\d{1,5})\n/.exec(data);
    if (!first || Number(first[1]) > 0xffff) return new Message(0, data);
    return new Message(Number(first[1]), data.slice(first[0].length));
  }

  function parseBinary(data) {
    const view = new DataView(data);
    if (view.byteLength < HEADER || view.getUint32(0, true) !== view.byteLength - HEADER) return null;
    return new Message(view.getUint16(4, true), new Uint8Array(data, HEADER));
  }

  function frameBinary(cmd, bytes) {
    const frame = new Uint8Array(HEADER + bytes.byteLength);
    const view = new DataView(frame.buffer);
    view.setUint32(0, bytes.byteLength, true);
    view.setUint16(4, cmd, true);
    frame.set(bytes, HEADER);
    return frame;
  }

  function asBytes(body) {
    if (body instanceof ArrayBuffer) return new Uint8Array(body);
    if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
    return null;
  }

  /**
   * A connection that keeps itself alive. Events for on(): a cmd (number), "message" (every message without a handler of
   * its own), "connecting", "online", "offline" ({code, reason, final, retryIn}), "error" (a handler's exception).
   * Options: binary (send text as binary frames too), backoff {base, cap} in ms, reconnect (true).
   */
  class RedRabbit {
    constructor(url, options = {}) {
      this.url = url || (location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/";
      this.options = Object.assign({ binary: false, reconnect: true }, options);
      this.backoff = Object.assign({ base: 500, cap: 15000 }, options.backoff);
      this.state = "offline"; // "offline" | "connecting" | "online"
      this._handlers = new Map();
      this._key = undefined;
      this._socket = null;
      this._retries = 0;
      this._timer = null;
      this._wanted = false;
      if (typeof addEventListener === "function") {
        addEventListener("online", () => this._wanted && this.state === "offline" && this._connect());
      }
    }

    /** Calls handler(message) for a cmd, or handler(detail) for an event. Returns a function that takes it back. */
    on(what, handler) {
      if (!this._handlers.has(what)) this._handlers.set(what, new Set());
      this._handlers.get(what).add(handler);
      return () => this._handlers.get(what).delete(handler);
    }

    /** Like on(cmd, …), with the parsed JSON: handler(value, message). */
    onJson(cmd, handler) {
      return this.on(cmd, (message) => handler(message.json(), message));
    }

    /** Connects and logs in with key: a string, bytes, or a function that returns one for every attempt. */
    login(key) {
      this._key = key;
      this._wanted = true;
      this._retries = 0;
      if (this._socket) this._drop();
      this._connect();
      return this;
    }

    /**
     * Sends one message: a string as it is, bytes (ArrayBuffer or a view) in a binary frame, anything else as JSON.
     * Returns false, and sends nothing, while offline: what to repeat after a reconnect is for the caller to say.
     */
    send(cmd, body = "") {
      if (this.state !== "online") return false;
      this._write(cmd, body);
      return true;
    }

    /** Leaves for good; a later login() starts again. */
    close() {
      this._wanted = false;
      clearTimeout(this._timer);
      if (!this._socket) return;
      this._drop();
      this._change("offline", { code: 1000, reason: "closed", final: true, retryIn: null });
    }

    _write(cmd, body) {
      if (!Number.isInteger(cmd) || cmd < 0 || cmd > 0xffff) throw new RangeError(`cmd ${cmd} is not in 0-65535`);
      const bytes = asBytes(body);
      const text = bytes ? null : typeof body === "string" ? body : JSON.stringify(body);
      if (bytes) this._socket.send(frameBinary(cmd, bytes));
      else if (this.options.binary) this._socket.send(frameBinary(cmd, encoder.encode(text)));
      else this._socket.send(`cmd:${cmd}\n${text}`);
    }

    _connect() {
      clearTimeout(this._timer);
      const socket = new WebSocket(this.url);
      let opened = 0;
      socket.binaryType = "arraybuffer";
      this._socket = socket;
      this._change("connecting");
      socket.onopen = () => {
        if (socket !== this._socket) return;
        opened = Date.now();
        this._login();
      };
      socket.onmessage = (event) => {
        if (socket === this._socket) this._receive(event.data);
      };
      socket.onclose = (event) => {
        if (socket !== this._socket) return;
        if (opened && Date.now() - opened > STABLE_MS) this._retries = 0;
        this._lost(event.code, event.reason);
      };
    }

    _login() {
      try {
        this._write(0, typeof this._key === "function" ? this._key() : this._key);
      } catch (error) {
        this._fail(error);
        this.close();
        return;
      }
      this._change("online");
    }

    _lost(code, reason) {
      this._socket = null;
      const final = FINAL.has(code) || !this.options.reconnect || !this._wanted;
      let retryIn = null;
      if (final) {
        this._wanted = false;
      } else {
        retryIn = Math.min(this.backoff.cap, this.backoff.base * 2 ** this._retries) * (0.5 + Math.random());
        this._retries = Math.min(this._retries + 1, 16);
        this._timer = setTimeout(() => this._connect(), retryIn);
      }
      this._change("offline", { code, reason: reason || REASONS[code] || "closed", final, retryIn });
    }

    _drop() {
      const socket = this._socket;
      this._socket = null;
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close(1000);
    }

    _receive(data) {
      this._retries = 0;
      const message = typeof data === "string" ? parseText(data) : parseBinary(data);
      if (!message) this._socket.close(4000, "malformed binary frame");
      else if (!this._emit(message.cmd, message)) this._emit("message", message);
    }

    _change(state, detail) {
      this.state = state;
      this._emit(state, detail);
    }

    _emit(what, detail) {
      const handlers = this._handlers.get(what);
      if (!handlers || !handlers.size) return false;
      for (const handler of [...handlers]) {
        try {
          handler(detail);
        } catch (error) {
          this._fail(error);
        }
      }
      return true;
    }

    _fail(error) {
      const handlers = this._handlers.get("error");
      if (!handlers || !handlers.size) return void console.error(error);
      for (const handler of [...handlers]) handler(error);
    }
  }

  RedRabbit.Message = Message;
  RedRabbit.REASONS = REASONS;
  globalThis.RedRabbit = RedRabbit;
})();
