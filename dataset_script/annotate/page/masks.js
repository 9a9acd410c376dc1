// Masks as the server sends them: COCO's runs, down the columns, the first of them of zeros.

export function decode(counts, [height, width]) {
  const columns = new Uint8Array(height * width);
  let place = 0;
  counts.forEach((count, index) => {
    if (index % 2) columns.fill(1, place, place + count);
    place += count;
  });
  const pixels = new Uint8Array(height * width);
  for (let x = 0; x < width; x++)
    for (let y = 0; y < height; y++) pixels[y * width + x] = columns[x * height + y];
  return pixels;
}

export function area(counts) {
  let sum = 0;
  for (let index = 1; index < counts.length; index += 2) sum += counts[index];
  return sum;
}

// A picture of a mask: its inside tinted, with light stripes that show it on things of its own
// colour, and its border full. `dashed` leaves gaps in the border.
export function paint(pixels, [height, width], name, { fill = 0.35, dashed = false } = {}) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(name.slice(at, at + 2), 16));
  const image = new ImageData(width, height);
  const thick = Math.max(1, Math.round(Math.max(width, height) / 400));
  const outside = (x, y) => x < 0 || y < 0 || x >= width || y >= height || !pixels[y * width + x];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      if (!pixels[y * width + x]) continue;
      const border =
        outside(x - thick, y) || outside(x + thick, y) || outside(x, y - thick) || outside(x, y + thick);
      const gap = dashed && Math.floor((x + y) / (4 * thick)) % 2;
      const alpha = border && !gap ? 1 : fill;
      const stripe = !border && fill > 0.3 && (x + y) % (10 * thick) < thick;
      const colour = stripe ? [255, 255, 255] : [red, green, blue];
      image.data.set([...colour, 255 * alpha], 4 * (y * width + x));
    }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

// Pictures of masks, made once as long as the mask and the colour stay.
const drawn = new Map();

export function picture(key, counts, size, colour, options) {
  const known = drawn.get(key);
  const same =
    known && known.colour === colour && known.counts.length === counts.length &&
    known.counts.every((count, index) => count === counts[index]);
  if (!same) drawn.set(key, { counts, colour, canvas: paint(decode(counts, size), size, colour, options) });
  return drawn.get(key).canvas;
}

export function forget() {
  drawn.clear();
}
