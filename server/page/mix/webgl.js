// Draw points with WebGL.

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

/** Whether WebGL runs on a GPU. Without a GPU, each point needs about a microsecond. */
export function hasGpu() {
  const gl = document.createElement("canvas").getContext("webgl");
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
