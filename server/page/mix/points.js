// A viewer of point clouds. The server decodes the points: x, y, z as float32 in the unit sphere. The
// cloud turns slowly; dragging or the arrow keys turn it by hand.
import { bytes } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { text } from "../text.js";
import { hasGpu, splatPainter, webglPainter } from "./painters.js";
import { withRetry } from "./retry.js";

const COLORS = {
  light: { near: [0.02, 0.37, 0.34], far: [0.62, 0.82, 0.78] },
  dark: { near: [0.45, 0.93, 0.85], far: [0.08, 0.26, 0.25] },
};
const MANY = 20_000; // More points than this are drawn with WebGL only if there is a GPU.
const STEP = 0.12; // radians per press of an arrow key
const SPEED = 0.5; // radians per second

/** Return `wide` (the viewer), `stored` (loads the points) and `close`. */
export function pointViewer(name) {
  const canvas = h("canvas", { class: "cloud", tabindex: 0, role: "img", "aria-label": text.points.label(name) });
  const caption = h("p", { class: "note cloud-note" }, text.points.waiting);
  let scene = null;
  let loaded = null;
  const problem = h("div", { class: "problem", role: "alert", hidden: true });
  const load = async (fileId) => {
    problem.hidden = true;
    try {
      const points = new Float32Array(await bytes(`v1/files/${fileId}/points`));
      scene = new Scene(canvas, points);
      caption.textContent = text.points.count(points.length / 3);
    } catch (error) {
      problem.replaceChildren(...withRetry(error, () => load(fileId)));
      problem.hidden = false;
    }
  };
  return {
    wide: h("div", { class: "cloud-holder" }, canvas, caption, problem),
    stored: (fileId) => {
      if (loaded) return;
      loaded = fileId;
      load(fileId);
    },
    close: () => scene?.close(),
  };
}

class Scene {
  constructor(canvas, points) {
    this.canvas = canvas;
    const many = points.length / 3 > MANY;
    const webgl = (!many || hasGpu()) && webglPainter(canvas, points);
    this.paint = webgl || splatPainter(canvas, points);
    this.ratio = webgl ? Math.min(2, devicePixelRatio) : 1;
    this.angles = { turn: -0.45, spin: 0.6 };
    this.moving = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.frames = 0;
    this.listen();
    this.visible = true;
    this.watcher = new IntersectionObserver(([entry]) => {
      this.visible = entry.isIntersecting;
      this.request();
    });
    this.watcher.observe(canvas);
    this.resizer = new ResizeObserver(() => this.request());
    this.resizer.observe(canvas);
  }

  close() {
    this.closed = true;
    this.watcher.disconnect();
    this.resizer.disconnect();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      this.moving = false;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.rotate(event.movementX / 120, event.movementY / 120);
    });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      this.moving = false;
      this.rotate(step[0] * STEP, step[1] * STEP);
    });
  }

  rotate(spin, turn) {
    this.angles.spin += spin;
    this.angles.turn += turn;
    this.request();
  }

  /** Draw before the next repaint. Clouds out of sight are not drawn. */
  request() {
    if (this.waiting || this.closed || !this.visible) return;
    this.waiting = requestAnimationFrame((now) => {
      this.waiting = null;
      if (this.moving) {
        this.angles.spin += Math.min(0.1, (now - (this.last ?? now)) / 1000) * SPEED;
        this.request();
      }
      this.last = now;
      this.draw();
    });
  }

  draw() {
    const { canvas, ratio, angles } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.round(n * ratio));
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    this.paint(angles, COLORS[document.documentElement.dataset.theme] ?? COLORS.light);
    canvas.dataset.frames = ++this.frames; // tests read the number of drawn frames
  }
}
