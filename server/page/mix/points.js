// A viewer of point clouds in plain WebGL. The server decodes the points: x, y, z as float32 in the
// unit sphere. The cloud turns slowly; dragging or the arrow keys turn it by hand.
import { bytes } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { text } from "../text.js";

const VERTEX = `
attribute vec3 point;
uniform vec2 turn, spin;  // cosine and sine of the angles around the x and y axes
uniform float size;
varying float depth;
void main() {
  vec3 p = vec3(spin.x * point.x + spin.y * point.z, point.y, spin.x * point.z - spin.y * point.x);
  p = vec3(p.x, turn.x * p.y - turn.y * p.z, turn.y * p.y + turn.x * p.z);
  depth = 0.5 - 0.5 * p.z;
  gl_Position = vec4(0.92 * p.xy, -0.5 * p.z, 1.0);
  gl_PointSize = size;
}`;
const FRAGMENT = `
precision mediump float;
uniform vec3 near, far;
varying float depth;
void main() { gl_FragColor = vec4(mix(near, far, depth), 1.0); }`;
const COLORS = {
  light: { near: [0.02, 0.37, 0.34], far: [0.62, 0.82, 0.78] },
  dark: { near: [0.45, 0.93, 0.85], far: [0.08, 0.26, 0.25] },
};
const STEP = 0.12; // radians per press of an arrow key
const SPEED = 0.5; // radians per second

/** Return `wide` (the viewer), `stored` (loads the points) and `close`. */
export function pointViewer(name) {
  const canvas = h("canvas", { class: "cloud", tabindex: 0, role: "img", "aria-label": text.points.label(name) });
  const caption = h("p", { class: "note cloud-note" }, text.points.waiting);
  let scene = null;
  let loaded = null;
  const load = async (fileId) => {
    try {
      const points = new Float32Array(await bytes(`v1/files/${fileId}/points`));
      scene = new Scene(canvas, points);
      caption.textContent = text.points.count(points.length / 3);
    } catch (error) {
      caption.textContent = error.message;
    }
  };
  return {
    wide: h("div", { class: "cloud-holder" }, canvas, caption),
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
    this.count = points.length / 3;
    this.angles = { turn: -0.45, spin: 0.6 };
    this.moving = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.frames = 0;
    this.gl = canvas.getContext("webgl", { antialias: false, alpha: true });
    if (!this.gl) throw new Error(text.points.noWebgl);
    this.uniforms = program(this.gl, points);
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
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
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
    const { gl, canvas, uniforms, angles } = this;
    const ratio = Math.min(2, devicePixelRatio);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((n) => Math.round(n * ratio));
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const side = Math.min(width, height);
    gl.viewport((width - side) / 2, (height - side) / 2, side, side);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const colors = COLORS[document.documentElement.dataset.theme] ?? COLORS.light;
    gl.uniform3fv(uniforms.near, colors.near);
    gl.uniform3fv(uniforms.far, colors.far);
    gl.uniform2f(uniforms.turn, Math.cos(angles.turn), Math.sin(angles.turn));
    gl.uniform2f(uniforms.spin, Math.cos(angles.spin), Math.sin(angles.spin));
    gl.uniform1f(uniforms.size, Math.max(1, Math.min(4, (side / 60) * (2000 / this.count) ** 0.25)));
    gl.drawArrays(gl.POINTS, 0, this.count);
    canvas.dataset.frames = ++this.frames; // tests read the number of drawn frames
  }
}

/** Compile the shaders and copy the points to the GPU. Returns the uniforms' locations by name. */
function program(gl, points) {
  const linked = gl.createProgram();
  for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(type);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(linked, shader);
  }
  gl.linkProgram(linked);
  gl.useProgram(linked);
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, points, gl.STATIC_DRAW);
  const place = gl.getAttribLocation(linked, "point");
  gl.enableVertexAttribArray(place);
  gl.vertexAttribPointer(place, 3, gl.FLOAT, false, 0, 0);
  gl.enable(gl.DEPTH_TEST);
  return Object.fromEntries(["turn", "spin", "size", "near", "far"].map((name) => [name, gl.getUniformLocation(linked, name)]));
}
