// Ties the figures, the table and the controls of a report together. Bokeh runs this once, when all
// figures are there, with what reportplots.py made: figures, sources, data.
"use strict"
const {names, line_colors} = data
const most_lines = line_colors.length - 1
const under_color = most_lines + 2, under_line = "#808890"
const $ = (id) => document.getElementById(id)
const has = (name) => name in figures
const rows = Array.from(document.querySelectorAll("table.regions tbody tr"))
const row_of = new Map(rows.map((row) => [+row.dataset.position, row]))
let selected = [], under_pointer = -1
let cursor = [0, 0, 0]

const fixed = (value, digits) => (value < 0 ? "\u2212" : "") + Math.abs(value).toFixed(digits)
const redraw = (source) => source.change.emit()
// to bokeh, the second of two quick clicks is another event, wherever it is
const on_click = (figure, work) => {
  for (const event of ["tap", "doubletap"]) figure.on_event(event, work)
}
const clamp = (value, low, high) => Math.min(Math.max(value, low), high)

// ---- slices: pictures are cut from one volume, whose axes are x, y, z ----
const views = {sagittal: [1, 2, 0], coronal: [0, 2, 1], axial: [0, 1, 2]}
const axes = ["x", "y", "z"]
const {volume, grey, voxels, sizes, affine, centres} = data
const strides = voxels && [1, voxels[0], voxels[0] * voxels[1]]

function cut(from, to, view, change) {
  const [across, up, through] = views[view]
  const start = cursor[through] * strides[through]
  for (let v = 0, at = 0; v < voxels[up]; v++) {
    for (let u = 0, i = start + v * strides[up]; u < voxels[across]; u++, i += strides[across]) {
      to[at++] = change ? change[from[i]] : from[i]
    }
  }
}

let shown = {}
function draw_slices() {
  if (!voxels) return
  const codes = new Uint8Array(names.length + 1)
  if (under_pointer >= 0) codes[under_pointer + 1] = under_color
  selected.forEach((r, i) => { codes[r + 1] = Math.min(i, most_lines) + 1 })
  const key = `${selected} ${under_pointer}`
  for (const view of Object.keys(views)) {
    const [across, up, through] = views[view]
    sources[`${view}_across`].location = (cursor[across] + 0.5) * sizes[across]
    sources[`${view}_up`].location = (cursor[up] + 0.5) * sizes[up]
    const moved = shown[view] !== cursor[through]
    const layers = [["regions", volume], ["grey", grey]].filter(([, from]) => from && moved)
    for (const [layer, from] of layers) {
      cut(from, sources[`${view}_${layer}`].data.image[0], view)
      redraw(sources[`${view}_${layer}`])
    }
    if (moved || shown.key !== key) {
      cut(volume, sources[`${view}_marked`].data.image[0], view, codes)
      redraw(sources[`${view}_marked`])
    }
    shown[view] = cursor[through]
  }
  shown.key = key
}

const mm = (ijk) => [0, 1, 2].map((r) =>
  affine[r][0] * ijk[0] + affine[r][1] * ijk[1] + affine[r][2] * ijk[2] + affine[r][3])
const region_at = (ijk) => volume[ijk[0] + ijk[1] * strides[1] + ijk[2] * strides[2]] - 1
const named = (r) => r < 0 ? "no region" : `${row_of.get(r)?.dataset.id ?? ""} ${names[r]}`
const told = (ijk) => {
  const place = mm(ijk).map((value, axis) => `${axes[axis]} ${fixed(value, 1)}`).join(", ")
  return `${place} mm: ${named(region_at(ijk))}`
}

function go(ijk) {
  cursor = ijk.map((value, axis) => clamp(Math.round(value), 0, voxels[axis] - 1))
  draw_slices()
  cursor.forEach((value, axis) => {
    const slider = $(`slice-${axes[axis]}`)
    slider.value = value
    const text = `${fixed(mm(cursor)[axis], 1)} mm`
    slider.setAttribute("aria-valuetext", text)
    $(`slice-${axes[axis]}-mm`).textContent = text
  })
  $("place").textContent = told(cursor)
}

function voxel_under(view, event) {
  const [across, up] = views[view]
  const ijk = [...cursor]
  ijk[across] = Math.floor(event.x / sizes[across])
  ijk[up] = Math.floor(event.y / sizes[up])
  const inside = ijk.every((value, axis) => value >= 0 && value < voxels[axis])
  return inside ? ijk : null
}

function start_slices() {
  for (const [view, [across, up, through]] of Object.entries(views)) {
    const figure = figures[view]
    on_click(figure, (event) => {
      const ijk = voxel_under(view, event)
      if (!ijk) return
      go(ijk)
      pick(region_at(ijk), event.modifiers)
    })
    figure.on_event("mousemove", (event) => {
      const ijk = voxel_under(view, event)
      if (ijk) hover(region_at(ijk), told(ijk))
    })
    figure.on_event("mouseleave", () => hover(-1, ""))
    const keys = {
      ArrowLeft: [across, -1], ArrowRight: [across, 1], ArrowDown: [up, -1], ArrowUp: [up, 1],
      PageDown: [through, -1], PageUp: [through, 1],
    }
    const place = $(`view-${view}`)
    place.addEventListener("keydown", (event) => {
      if (event.key in keys) {
        const [axis, by] = keys[event.key]
        const ijk = [...cursor]
        ijk[axis] += by * (event.shiftKey ? 5 : 1)
        go(ijk)
      } else if (event.key === "Enter" || event.key === " ") {
        pick(region_at(cursor), {ctrl: event.ctrlKey, shift: event.shiftKey})
      } else {
        return
      }
      event.preventDefault()
    })
  }
  axes.forEach((name, axis) => {
    const slider = $(`slice-${name}`)
    slider.max = voxels[axis] - 1
    slider.addEventListener("input", () => {
      const ijk = [...cursor]
      ijk[axis] = +slider.value
      go(ijk)
    })
  })
  $("opacity").value = sources.overlays[0].global_alpha * 100
  $("opacity").addEventListener("input", (event) => {
    for (const glyph of sources.overlays) glyph.global_alpha = event.target.value / 100
  })
}

// ---- series ----
const n_frames = data.times?.length ?? 0
const row_values = (codes, low, step, r) => {
  const found = new Float64Array(n_frames)
  for (let t = 0, i = r * n_frames; t < n_frames; t++, i++) {
    found[t] = codes[i] === 0 ? NaN : low[r] + (codes[i] - 1) * step[r]
  }
  return found
}
const moments = (codes, r) => {
  let n = 0, sum = 0, squares = 0
  for (let i = r * n_frames, end = i + n_frames; i < end; i++) {
    if (codes[i] !== 0) { n++; sum += codes[i]; squares += codes[i] * codes[i] }
  }
  const mean = sum / n
  return [mean, n > 1 ? Math.sqrt(Math.max(squares / n - mean * mean, 0) * n / (n - 1)) : 0]
}
// z-scores of -2 to 2 as greys; steps of codes cancel out
function fill_carpet(codes, to) {
  for (let r = 0; r * n_frames < codes.length; r++) {
    const [mean, spread] = moments(codes, r)
    for (let i = r * n_frames, end = i + n_frames; i < end; i++) {
      const z = spread > 0 ? (codes[i] - mean) / spread : 0
      to[i] = codes[i] === 0 ? 0 : clamp(Math.round(128 + z * 63.5), 1, 255)
    }
  }
}

function shown_values(r) {
  const values = row_values(data.codes, data.low, data.step, r)
  if (!$("scale").checked) return values
  const [mean, spread] = moments(data.codes, r)
  const middle = data.low[r] + (mean - 1) * data.step[r], unit = spread * data.step[r]
  return values.map((value) => unit > 0 ? (value - middle) / unit : value - middle)
}

function draw_series() {
  if (!has("series")) return
  const scale = $("scale").checked
  const drawn = selected.slice(0, most_lines)
  const ys = drawn.map(shown_values)
  figures.series.left[0].axis_label = scale ? "z-score" : data.unit
  const lines = {
    xs: drawn.map(() => data.times), ys, color: line_colors.slice(0, drawn.length),
    name: drawn.map((r) => names[r]),
  }
  if (!ys.some((values) => values.some(Number.isFinite))) {
    // without a line, the range of the axis would have nothing to go by
    lines.xs.push([data.times[0], data.times.at(-1)])
    lines.ys.push([0, 0])
    lines.color.push("transparent")
    lines.name.push("")
  }
  sources.lines.data = lines
  draw_rows()
}

// of carpet and matrix; and the series under the pointer, as a thin line
function draw_rows() {
  if (!has("series")) return
  const lit = under_pointer < 0 || selected.includes(under_pointer) ? [] : [under_pointer]
  sources.rows.data = {
    at: [...selected, ...lit].map((r) => r + 0.5),
    color: [...selected.map((r, i) => line_colors[Math.min(i, most_lines)]),
      ...lit.map(() => under_line)],
  }
  sources.under.data = {xs: lit.map(() => data.times), ys: lit.map(shown_values)}
}

const frame_under = (event) => {
  const step = n_frames > 1 ? data.times[1] - data.times[0] : 1
  const t = Math.round((event.x - data.times[0]) / step)
  return t >= 0 && t < n_frames ? t : null
}
function frame_text(t) {
  const time = data.time_unit === "s" ? `, ${fixed(data.times[t], 1)} s` : ""
  return `frame ${t}${time}${censored.has(t) ? ", censored" : ""}`
}
const censored = new Set(data.censored)
const number = (value) => Number.isFinite(value)
  ? (value < 0 ? "\u2212" : "") + Math.abs(value).toPrecision(4) : "missing"

function start_series() {
  fill_carpet(data.codes, sources.carpet.data.image[0])
  redraw(sources.carpet)
  const under = (event) => {
    const r = Math.floor(event.y)
    return r >= 0 && r < names.length ? r : -1
  }
  on_click(figures.carpet, (event) => pick(under(event), event.modifiers))
  figures.carpet.on_event("mousemove", (event) => {
    const r = under(event), t = frame_under(event)
    if (r < 0 || t === null) return
    const code = data.codes[r * n_frames + t]
    const value = code === 0 ? NaN : data.low[r] + (code - 1) * data.step[r]
    hover(r, `${named(r)}, ${frame_text(t)}: ${number(value)}`, "carpet-text")
  })
  figures.carpet.on_event("mouseleave", () => hover(-1, "", "carpet-text"))
  $("scale").checked = !data.standardized
  $("scale").addEventListener("change", draw_series)
  if (has("confounds")) {
    fill_carpet(data.confounds, sources.confounds.data.image[0])
    redraw(sources.confounds)
    figures.confounds.on_event("mousemove", (event) => {
      const row = Math.floor(event.y), t = frame_under(event)
      if (row < 0 || row >= data.confound_names.length || t === null) return
      $("confounds-text").textContent = `${data.confound_names[row]}, ${frame_text(t)}`
    })
  }
}

// ---- correlations: the part below the diagonal is here ----
const correlation = (a, b) => {
  if (a === b) return 1
  const [i, j] = a > b ? [a, b] : [b, a]
  const code = data.matrix[i * (i - 1) / 2 + j]
  return code === -32768 ? NaN : code / 10000
}

function start_matrix() {
  const n = names.length, picture = sources.matrix.data.image[0]
  for (let i = 0, at = 0; i < n; i++) {
    for (let j = 0; j < i; j++) {
      const code = data.matrix[at++]
      const color = code === -32768 ? 0 : 128 + Math.round(code * 0.0127)
      picture[i * n + j] = picture[j * n + i] = color
    }
  }
  redraw(sources.matrix)
  const under = (event) => {
    const pair = [Math.floor(event.y), Math.floor(event.x)]
    return pair.every((r) => r >= 0 && r < n) ? pair : null
  }
  on_click(figures.matrix, (event) => {
    const pair = under(event)
    if (pair) select([...new Set(added(event.modifiers) ? [...selected, ...pair] : pair)])
  })
  figures.matrix.on_event("mousemove", (event) => {
    const pair = under(event)
    if (!pair) return
    const r = pair[0] === pair[1] ? "the region itself" : `r = ${
      Number.isFinite(correlation(...pair)) ? fixed(correlation(...pair), 3) : "missing"}`
    hover(pair[0], `${named(pair[0])} and ${named(pair[1])}: ${r}`, "matrix-text")
  })
  figures.matrix.on_event("mouseleave", () => hover(-1, "", "matrix-text"))
}

// ---- what is selected, and what is under the pointer ----
const added = (keys) => Boolean(keys?.ctrl || keys?.shift || keys?.meta || $("add")?.checked)

function pick(r, keys) {
  if (r < 0) return
  if (!added(keys)) return select([r])
  select(selected.includes(r) ? selected.filter((other) => other !== r) : [...selected, r])
}

function select(regions, {follow = true} = {}) {
  selected = regions
  rows.forEach((row) => row.setAttribute("aria-selected", "false"))
  selected.forEach((r, i) => {
    const row = row_of.get(r)
    row?.setAttribute("aria-selected", "true")
    row?.style.setProperty("--mark", line_colors[Math.min(i, most_lines)])
  })
  const last = row_of.get(selected.at(-1))
  if (last && follow) {
    // inside its box only: the page must not jump
    const box = last.closest(".wide"), top = last.offsetTop
    const head = box.querySelector("thead").offsetHeight
    if (top < box.scrollTop + head || top + last.offsetHeight > box.scrollTop + box.clientHeight) {
      box.scrollTop = top - box.clientHeight / 2
    }
  }
  draw_series()
  draw_slices()
  draw_chips()
}

function draw_chips() {
  const list = $("chips")
  list.replaceChildren(...selected.map((r, i) => {
    const item = document.createElement("li"), button = document.createElement("button")
    button.type = "button"
    button.style.setProperty("--mark", line_colors[Math.min(i, most_lines)])
    button.textContent = names[r]
    button.title = "Take out of the selection"
    button.setAttribute("aria-label", `${names[r]}: take out of the selection`)
    button.addEventListener("click", () => select(selected.filter((other) => other !== r)))
    item.append(button)
    return item
  }))
  const more = selected.length - most_lines
  const text = selected.length === 0
    ? "No region is selected. Click one in a slice, the table, the carpet or the matrix."
    : more > 0 && has("series") ? `The first ${most_lines} of ${selected.length} are drawn.` : ""
  $("selection-text").textContent = text
}

let waiting = false
function hover(r, text, place = "pointer") {
  if ($(place)) $(place).textContent = text
  if (r === under_pointer) return
  row_of.get(under_pointer)?.classList.remove("under")
  row_of.get(r)?.classList.add("under")
  under_pointer = r
  if (waiting) return
  // a pointer moves more often than a screen shows
  waiting = true
  requestAnimationFrame(() => {
    waiting = false
    draw_slices()
    draw_rows()
  })
}

function start_table() {
  const body = document.querySelector("table.regions tbody")
  if (!body) return
  body.closest("table").setAttribute("role", "grid")
  body.closest("table").setAttribute("aria-multiselectable", "true")
  // one row can be tabbed to; arrows go on from there
  let current = rows[0]
  const focus = (row) => {
    if (!row) return
    if (current) current.tabIndex = -1
    current = row
    current.tabIndex = 0
    current.focus()
  }
  rows.forEach((row) => { row.tabIndex = -1; row.setAttribute("aria-selected", "false") })
  if (current) current.tabIndex = 0
  const choose = (row, event) => {
    const r = +row.dataset.position
    pick(r, {ctrl: event.ctrlKey, shift: event.shiftKey, meta: event.metaKey})
    if (voxels && centres[r][0] >= 0) go(centres[r])
  }
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr")
    if (row) { focus(row); choose(row, event) }
  })
  body.addEventListener("keydown", (event) => {
    const row = event.target.closest("tr")
    const seen = Array.from(body.rows).filter((other) => !other.hidden)
    const at = seen.indexOf(row)
    const to = {
      ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: seen.length - 1,
      PageDown: Math.min(at + 10, seen.length - 1), PageUp: Math.max(at - 10, 0),
    }[event.key]
    if (to !== undefined) focus(seen[to])
    else if (event.key === "Enter" || event.key === " ") choose(row, event)
    else return
    event.preventDefault()
  })
  body.addEventListener("pointerover", (event) => {
    const row = event.target.closest("tr")
    if (row) hover(+row.dataset.position, "")
  })
  body.addEventListener("pointerleave", () => hover(-1, ""))
  // a search may hide the row that can be tabbed to
  $("search").addEventListener("input", () => {
    const first = Array.from(body.rows).find((row) => !row.hidden)
    if (current?.hidden && first) { current.tabIndex = -1; current = first; first.tabIndex = 0 }
  })
}

// ---- light and dark ----
function paint(dark) {
  const ink = dark ? "#d7dbe0" : "#22262b", line = dark ? "#5c6570" : "#9aa3ad"
  for (const [name, figure] of Object.entries(figures)) {
    if (name in views) continue
    for (const axis of [...figure.left, ...figure.below]) {
      if (axis === sources.bar) continue
      axis.axis_label_text_color = axis.major_label_text_color = ink
      axis.axis_line_color = axis.major_tick_line_color = axis.minor_tick_line_color = line
    }
    figure.outline_line_color = line
  }
  if (sources.bar) sources.bar.title_text_color = sources.bar.major_label_text_color = ink
}
const scheme = window.matchMedia("(prefers-color-scheme: dark)")
scheme.addEventListener("change", () => paint(scheme.matches))

paint(scheme.matches)
start_table()
if (has("series")) start_series()
if (has("matrix")) start_matrix()
if (voxels) start_slices()
$("clear")?.addEventListener("click", () => select([]))
// the first regions with anything to show, and slices through the middle of all regions
const there = names.map((_, r) => r).filter((r) => has("series")
  ? data.step[r] > 0 : centres[r][0] >= 0)
select(there.slice(0, has("series") ? 3 : 1), {follow: false})
if (voxels) {
  const placed = centres.filter(([x]) => x >= 0)
  go(axes.map((_, axis) => placed.length
    ? placed.reduce((sum, centre) => sum + centre[axis], 0) / placed.length
    : voxels[axis] / 2))
}
document.documentElement.dataset.ready = "yes"
