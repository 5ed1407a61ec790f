// Text: elements, times, sizes, and colours of names.
//
// Peers choose addresses, paths and parts of names. Everything enters the document as text, and
// characters that would hide or reorder it are shown as escapes.

const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** The text with its invisible characters as `\u{..}`. */
function visible(text) {
  return String(text).replace(UNSEEN, (it) => "\\u{" + it.codePointAt(0).toString(16) + "}");
}

/** The text, cut in the middle. */
function cut(text, length) {
  if (text.length <= length) return text;
  const head = Math.ceil((length - 1) * 0.6);
  return text.slice(0, head) + "\u2026" + text.slice(text.length - (length - 1 - head));
}

function byId(id) {
  return document.getElementById(id);
}

/** An element with a class and text or children. */
function element(name, className, ...content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  for (const it of content) {
    if (it === null || it === undefined) continue;
    made.append(typeof it === "object" ? it : visible(it));
  }
  return made;
}

function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/** Makes the children of `parent` match `items`, and keeps those that stay (and their focus). */
function reconcile(parent, items, keyOf, create, update) {
  const known = parent.keyed || (parent.keyed = new Map());
  const keys = new Set();
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    keys.add(key);
    let child = known.get(key);
    if (!child) {
      child = create(item);
      known.set(key, child);
    }
    update(child, item);
    if (child === at) at = at.nextSibling;
    else parent.insertBefore(child, at);
  }
  for (const [key, child] of known) {
    if (keys.has(key)) continue;
    child.remove();
    known.delete(key);
  }
}

const GROUPED = new Intl.NumberFormat("en");

function count(number) {
  return GROUPED.format(number);
}

function plural(number, one, many) {
  return count(number) + " " + (number === 1 ? one : many || one + "s");
}

/** A duration in nanoseconds, with three digits: `12.3 ms`. */
function duration(ns) {
  const size = Math.abs(ns);
  if (size >= 3600e9) return Math.floor(ns / 3600e9) + " h " + Math.floor((ns % 3600e9) / 60e9) + " min";
  if (size >= 60e9) return Math.floor(ns / 60e9) + " min " + Math.floor((ns % 60e9) / 1e9) + " s";
  const [unit, name] = size >= 1e9 ? [1e9, "s"] : size >= 1e6 ? [1e6, "ms"] : size >= 1e3 ? [1e3, "\u00b5s"] : [1, "ns"];
  const value = ns / unit;
  const digits = Math.abs(value) >= 100 || unit === 1 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toFixed(digits) + " " + name;
}

/** An age, which changes all the time: seconds are precise enough. */
function age(ns) {
  return ns >= 1e9 && ns < 60e9 ? Math.floor(ns / 1e9) + " s" : duration(ns);
}

function bytes(number) {
  if (number === undefined || number === null) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let value = number;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    unit += 1;
  }
  return (unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)) + " " + units[unit];
}

/** The wall-clock time `ns` nanoseconds after `unixMs`, with as many decimals as `step` needs. */
function wallClock(unixMs, ns, step) {
  const rest = unixMs % 1000;
  const total = rest * 1e6 + ns;
  const seconds = Math.floor(total / 1e9);
  const date = new Date(unixMs - rest + seconds * 1000);
  const pad = (number) => String(number).padStart(2, "0");
  const whole = pad(date.getHours()) + ":" + pad(date.getMinutes()) + ":" + pad(date.getSeconds());
  return whole + decimals(total - seconds * 1e9, step);
}

/** Seconds since the beginning with as many decimals as `step` needs. */
function sinceStart(ns, step) {
  const negative = ns < 0 ? "-" : "";
  const size = Math.abs(ns);
  if (step < 1e3) return negative + (size / 1e3).toFixed(step >= 100 ? 1 : step >= 10 ? 2 : 3) + " \u00b5s";
  if (step < 1e6) return negative + (size / 1e6).toFixed(step >= 1e5 ? 1 : step >= 1e4 ? 2 : 3) + " ms";
  return negative + (size / 1e9).toFixed(step >= 1e9 ? 0 : step >= 1e8 ? 1 : step >= 1e7 ? 2 : 3) + " s";
}

function decimals(ns, step) {
  if (step >= 1e9) return "";
  const digits = Math.min(9, Math.max(1, Math.ceil(9 - Math.log10(step) - 1e-9)));
  return "." + String(Math.floor(ns)).padStart(9, "0").slice(0, digits);
}

function hash(text) {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  }
  return (value ^ (value >>> 13)) >>> 0;
}

/** OKLCH, whose steps of hue look equally different, as `rgb()`. */
function oklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const channel = (value) => {
    const shown = value <= 0.0031308 ? 12.92 * value : 1.055 * Math.max(value, 0) ** (1 / 2.4) - 0.055;
    return Math.round(255 * Math.min(1, Math.max(0, shown)));
  };
  const red = channel(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s);
  const green = channel(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s);
  const blue = channel(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s);
  return "rgb(" + red + " " + green + " " + blue + ")";
}

/** A task's name without the address or the thread's number at its end: what all tasks of one kind share. */
function roleOf(name) {
  return name.replace(/\s+(?:\S+:\d+|unix:.*|\/.*|\d+)$/, "") || name;
}

/**
 * Colours of owners: tasks of one role have one colour. A role's place in the palette follows from its hash; if another name has that
 * place, the next free one is taken. Red is left to findings. With more roles than places, roles
 * share colours.
 */
class Palette {
  constructor() {
    this.hues = 13;
    this.levels = 2;
    this.places = new Map();
    this.taken = new Set();
    this.made = new Map();
    this.dark = matchMedia("(prefers-color-scheme: dark)");
  }

  place(role) {
    let place = this.places.get(role);
    if (place !== undefined) return place;
    const size = this.hues * this.levels;
    place = hash(role) % size;
    if (this.taken.size < size) {
      // 5 places further: a hue that is far from the neighbours'.
      while (this.taken.has(place)) place = (place + 5) % size;
      this.taken.add(place);
    }
    if (this.places.size > 20000) this.places.clear();
    this.places.set(role, place);
    return place;
  }

  /** `{bar, pale, edge, ink}` of a role. */
  of(role) {
    const dark = this.dark.matches;
    const place = this.place(role) * 2 + (dark ? 1 : 0);
    let colours = this.made.get(place);
    if (colours) return colours;
    const index = place >> 1;
    const hue = 55 + (index % this.hues) * (300 / this.hues);
    const second = index >= this.hues;
    const [lightness, chroma] = dark ? (second ? [0.64, 0.08] : [0.52, 0.13]) : second ? [0.72, 0.13] : [0.84, 0.1];
    colours = {
      bar: oklch(lightness, chroma, hue),
      pale: oklch(dark ? 0.32 : 0.95, dark ? 0.05 : 0.035, hue),
      edge: oklch(dark ? 0.8 : 0.52, 0.12, hue),
      ink: dark ? (second ? "#0b0d10" : "#ffffff") : "#14171a",
    };
    this.made.set(place, colours);
    return colours;
  }
}
