// Makes tables of class "sortable" sortable by their headers, and searchable by the field that
// data-search names. Without this script they are plain tables.
"use strict"
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0]
  const collator = new Intl.Collator(undefined, {numeric: true})
  const key = (row, column) => {
    const cell = row.cells[column]
    const text = cell.dataset.value ?? cell.textContent
    return cell.classList.contains("number") ? (text === "" || isNaN(text) ? null : +text) : text
  }
  const compare = (a, b) => typeof a === "number" ? a - b : collator.compare(a, b)

  table.querySelectorAll("thead th").forEach((header, column) => {
    const button = document.createElement("button")
    button.type = "button"
    button.append(...header.childNodes)
    header.append(button)
    button.addEventListener("click", () => {
      const down = header.getAttribute("aria-sort") === "ascending"
      table.querySelectorAll("th[aria-sort]").forEach((th) => th.removeAttribute("aria-sort"))
      header.setAttribute("aria-sort", down ? "descending" : "ascending")
      const rows = Array.from(body.rows, (row) => [key(row, column), row])
      // what is missing stands last, whichever way
      rows.sort(([a], [b]) => a === null || b === null
        ? (a === null) - (b === null)
        : (down ? -1 : 1) * compare(a, b))
      body.append(...rows.map(([, row]) => row))
    })
  })

  const field = document.getElementById(table.dataset.search)
  const count = document.getElementById(table.dataset.count)
  const total = body.rows.length
  // of text as people type it: no accents, no capitals
  const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase()
  const search = () => {
    const words = plain(field.value).split(/\s+/).filter(Boolean)
    let found = 0
    for (const row of body.rows) {
      row.plain ??= plain(Array.from(row.cells, (cell) => cell.textContent).join(" "))
      row.hidden = !words.every((word) => row.plain.includes(word))
      found += !row.hidden
    }
    count.textContent = words.length ? `${found} of ${total}` : `${total}`
  }
  if (field) {
    field.addEventListener("input", search)
    field.closest("[hidden]")?.removeAttribute("hidden")
    search()
  }
}
