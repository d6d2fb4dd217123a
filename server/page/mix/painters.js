// Draw points: with WebGL, or on a two-dimensional canvas. The latter is faster for many points if
// there is no GPU.

const SHADES = 256;
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

/** Whether WebGL runs on a GPU. Browsers without a window ignore the option, but name the GPU. */
export function hasGpu() {
  const gl = document.createElement("canvas").getContext("webgl", { failIfMajorPerformanceCaveat: true });
  if (!gl) return false;
  const names = gl.getExtension("WEBGL_debug_renderer_info");
  const name = gl.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return !/swiftshader|llvmpipe|software|basic render/i.test(name);
}

/** Return a function that draws the points, or null if the browser has no WebGL. */
export function webglPainter(canvas, points) {
  const gl = canvas.getContext("webgl", { antialias: false });
  if (!gl) return null;
  const places = program(gl, points);
  const count = points.length / 3;
  return ({ turn, spin }, { near, far }) => {
    const { width, height } = canvas;
    const side = Math.min(width, height);
    gl.viewport((width - side) / 2, (height - side) / 2, side, side);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniform3fv(places.near, near);
    gl.uniform3fv(places.far, far);
    gl.uniform2f(places.turn, Math.cos(turn), Math.sin(turn));
    gl.uniform2f(places.spin, Math.cos(spin), Math.sin(spin));
    gl.uniform1f(places.size, Math.max(1, Math.min(4, (side / 60) * (2000 / count) ** 0.25)));
    gl.drawArrays(gl.POINTS, 0, count);
  };
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
  const names = ["turn", "spin", "size", "near", "far"];
  return Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(linked, name)]));
}

/**
 * Return a function that draws the points as `webglPainter` does, or null. Each point is one pixel,
 * with a depth buffer.
 */
export function splatPainter(canvas, points) {
  const context = canvas.getContext("2d");
  if (!context) return null;
  let image = null;
  let pixels = null;
  let depths = null;
  return ({ turn, spin }, colors) => {
    const { width, height } = canvas;
    if (image?.width !== width || image.height !== height) {
      image = context.createImageData(width, height);
      pixels = new Uint32Array(image.data.buffer);
      depths = new Float32Array(width * height);
    }
    pixels.fill(0);
    depths.fill(-2);
    const shades = palette(colors);
    const [a, b, c, d] = [Math.cos(spin), Math.sin(spin), Math.cos(turn), Math.sin(turn)];
    const scale = 0.46 * Math.min(width, height);
    const [left, top] = [width / 2, height / 2];
    for (let i = 0; i < points.length; i += 3) {
      const [x, y, z] = [points[i], points[i + 1], points[i + 2]];
      const back = a * z - b * x;
      const depth = d * y + c * back;
      const column = (left + scale * (a * x + b * z)) | 0;
      const row = (top - scale * (c * y - d * back)) | 0;
      const pixel = row * width + column;
      if (depth <= depths[pixel]) continue;
      depths[pixel] = depth;
      pixels[pixel] = shades[((0.5 - 0.5 * depth) * (SHADES - 1)) | 0];
    }
    context.putImageData(image, 0, 0);
  };
}

/** Colors from near to far, as the four bytes of a pixel. */
function palette({ near, far }) {
  const shades = new Uint32Array(SHADES);
  for (let shade = 0; shade < SHADES; shade++) {
    const part = shade / (SHADES - 1);
    const [red, green, blue] = near.map((value, i) => Math.round(255 * (value + part * (far[i] - value))));
    shades[shade] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  return shades;
}
