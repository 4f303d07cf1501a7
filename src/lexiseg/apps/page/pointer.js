// What is under the pointer, or under the cross that arrow keys move, on a mask of the page. It is
// read from the maps that lie in the legend (../results.py, Shown.packed); nothing is asked for.
(() => {
  const HINT = "point at the mask, or move the cross on it by arrow keys";
  const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const opened = new WeakMap();
  let last = null; // of the mask's name, and the place in it as parts of its sides
  let seen = null; // the map that the last text came from

  const unpacked = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };

  const open = async (element) => {
    const map = JSON.parse(element.dataset.map);
    return { ...map, values: await unpacked(map.values) };
  };

  const textAt = (map, x, y) => {
    const [column, row] = [Math.floor(x * map.columns), Math.floor(y * map.rows)];
    const [size, pixel] = [map.columns * map.rows, row * map.columns + column];
    const index = map.values[pixel] + 256 * map.values[size + pixel];
    const place = `(${Math.floor(x * map.width)}, ${Math.floor(y * map.height)})`;
    if (index >= map.names.length) return `${place}: none of them`;
    return `${place}: ${map.names[index]}, confidence ${(map.values[2 * size + pixel] / 100).toFixed(2)}`;
  };

  const mapOf = (name) => document.querySelector(`#legend [data-map-of="${name}"]`);

  const tell = async () => {
    const output = document.getElementById("pointed");
    const element = last && mapOf(last.name);
    seen = element;
    if (!output) return;
    if (!element) {
      output.textContent = HINT;
      return;
    }
    if (!opened.has(element)) opened.set(element, open(element));
    const map = await opened.get(element);
    if (seen === element) output.textContent = textAt(map, last.x, last.y);
  };

  // Where a picture really lies in its element, which may be of another shape (object-fit: contain).
  const boxOf = (image) => {
    const box = image.getBoundingClientRect();
    const scale = Math.min(box.width / image.naturalWidth, box.height / image.naturalHeight);
    const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
    const left = box.left + (box.width - width) / 2;
    return { left, top: box.top + (box.height - height) / 2, width, height };
  };

  const point = (event) => {
    const image = event.target.closest?.("#result img, #second img");
    if (!image) return;
    const box = boxOf(image);
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    if (x < 0 || x >= 1 || y < 0 || y >= 1) return;
    last = { name: image.closest("#result, #second").id, x, y };
    tell();
  };

  const move = (event) => {
    const frame = event.target.closest?.("#result, #second");
    const step = STEPS[event.key];
    const image = frame?.querySelector("img");
    if (!step || event.target !== frame || !image) return;
    event.preventDefault();
    const from = last?.name === frame.id ? last : { x: 0.5, y: 0.5 };
    const far = event.shiftKey ? 0.1 : 0.01;
    const [x, y] = [from.x, from.y].map((at, axis) =>
      Math.min(0.9999, Math.max(0, at + far * step[axis])));
    last = { name: frame.id, x, y };
    const [box, outer] = [boxOf(image), frame.getBoundingClientRect()];
    frame.style.setProperty("--cross-x", `${box.left - outer.left + x * box.width}px`);
    frame.style.setProperty("--cross-y", `${box.top - outer.top + y * box.height}px`);
    frame.classList.add("crossed");
    tell();
  };

  for (const kind of ["pointermove", "pointerdown"]) {
    document.addEventListener(kind, (event) => {
      document.querySelectorAll(".crossed").forEach((frame) => frame.classList.remove("crossed"));
      point(event);
    });
  }
  document.addEventListener("keydown", move);
  new MutationObserver(() => {
    document.querySelectorAll("#result, #second").forEach((frame) => {
      if (frame.hasAttribute("tabindex")) return;
      frame.tabIndex = 0;
      frame.setAttribute("aria-describedby", "pointed");
    });
    if (last && mapOf(last.name) !== seen) tell();
  }).observe(document, { childList: true, subtree: true });
})();
