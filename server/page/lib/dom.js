// Create elements. Children that are strings become text nodes: the page never parses a text as HTML.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "srcObject", "muted", "open"]);

/** Create an element. Keys of `props` that begin with "on" are listeners; null and false are left out. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) assign(element, name, value);
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

function assign(element, name, value) {
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (PROPERTIES.has(name)) element[name] = value;
  else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
}

/** A button. `name` is its visible text, or its accessible name if `icon` is given alone. */
export function button(name, onclick, { icon: drawing, kind = "", alone = false, ...props } = {}) {
  const label = alone ? { "aria-label": name, title: name } : {};
  const classes = `button ${kind} ${alone ? "icon-only" : ""}`;
  return h("button", { type: "button", class: classes, onclick, ...label, ...props },
    drawing && icon(drawing), !alone && h("span", {}, name));
}

/** Make a unique id, for labels and descriptions. */
let number = 0;
export const uid = (prefix) => `${prefix}-${++number}`;

const SVG = "http://www.w3.org/2000/svg";

/** Create an SVG element. */
export function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const ICONS = {
  add: "M12 5v14M5 12h14",
  file: "M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8zM14 3v5h5",
  mic: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11a6 6 0 0 0 12 0M12 17v4",
  camera: "M4 8h3l2-3h6l2 3h3v11H4zM12 10a3.2 3.2 0 1 0 0 6.4 3.2 3.2 0 0 0 0-6.4z",
  text: "M5 6h14M12 6v13M9 19h6",
  close: "M6 6l12 12M18 6L6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  key: "M15 4a5 5 0 1 0 0 10 5 5 0 0 0 0-10zM11.2 12.8L4 20M7 17l2 2",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 8.5h.01",
  video: "M4 6h11v12H4zM15 11l5-3v8l-5-3",
  audio: "M4 10v4M8 7v10M12 4v16M16 8v8M20 10v4",
  point: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.5",
  depth: "M3 19l6-9 4 5 3-4 5 8zM17 6.5h.01",
  thermal: "M10 4a2 2 0 0 1 4 0v9a4 4 0 1 1-4 0zM12 9v7",
  imu: "M3 12h4l3-7 4 14 3-7h4",
  retry: "M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6",
};

export function icon(name) {
  const path = svg("path", { d: ICONS[name] ?? ICONS.file });
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, path);
}
