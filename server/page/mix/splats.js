// Draw points without a GPU: each point is one pixel of a two-dimensional canvas, with a depth
// buffer. For many points, this is faster than WebGL in software.

const SHADES = 256;

/** Return a function that draws the points as `webglPainter` does, or null. */
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
