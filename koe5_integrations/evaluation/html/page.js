"use strict";
// Everything from the data set goes into the page as text nodes, never as markup.
(() => {
  const PAGE = 60; // rows added at a time
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const number = (value, digits) => (value === null ? "–" : value.toFixed(digits));

  function el(tag, options = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (value === false || value === undefined) continue;
      node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children);
    return node;
  }

  const badge = (system) => el("span", { class: `badge ${system[2]}`, title: system[0] }, system[1]);
  const specCode = (system) =>
    el("code", {}, ...system[0].split(/(?<=[:+])/).flatMap((part) => [part, el("wbr")]));
  const korean = (tag, text, kind) => el(tag, { lang: "ko", class: kind }, text);

  // ---- The table of systems --------------------------------------------------------------------
  function sortTable(table, header) {
    const column = [...header.parentNode.children].indexOf(header);
    const numeric = !header.classList.contains("system");
    const before = header.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const direction = before === "none" ? first : before === "descending" ? "ascending" : "descending";
    for (const other of header.parentNode.children) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", direction);
    const key = (row) => {
      const cell = row.children[column];
      if (!numeric) return cell.textContent.trim();
      return cell.dataset.v === undefined ? NaN : Number(cell.dataset.v);
    };
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numeric) return sign * x.localeCompare(y, "ko");
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return sign * (x - y);
    });
    table.tBodies[0].append(...rows);
  }

  function showCutoff(chosen) {
    for (const cell of byId("systems").querySelectorAll("[data-k]")) {
      cell.hidden = chosen !== "" && cell.dataset.k !== chosen;
    }
    for (const chip of byId("cutoffs").querySelectorAll("button")) {
      chip.setAttribute("aria-pressed", String(chip.dataset.cutoff === chosen));
    }
  }

  byId("systems").tHead.addEventListener("click", (event) => {
    const header = event.target.closest("th");
    if (header) sortTable(byId("systems"), header);
  });
  byId("cutoffs")?.addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    if (chip) showCutoff(chip.dataset.cutoff);
  });

  // ---- The list of queries ---------------------------------------------------------------------
  const find = byId("find");
  const show = byId("show");
  const sort = byId("sort");
  const measure = byId("measure");
  const list = byId("queries");
  const normal = (text) => text.normalize("NFC").toLowerCase();

  const searched = data.queries.map((query) => {
    const expected = query.expected.flatMap(([doc]) => data.documents[doc]);
    return normal([query.id, query.text, ...expected].join("\n"));
  });
  const finders = data.queries.map(
    (query) =>
      data.systems.filter((_, s) => query.hits[s].some(([doc]) => isExpected(query, doc))).length,
  );

  function isExpected(query, doc) {
    return query.expected.some(([expected]) => expected === doc);
  }

  function values(query) {
    return query.values[Number(measure.value)].map((value) => value ?? 0);
  }

  const sum = (all) => all.reduce((total, value) => total + value, 0);
  const spread = (all) => Math.max(...all) - Math.min(...all);
  const orders = [
    ["Systems disagree most", (query) => -spread(values(query))],
    ["Hardest for all", (query) => sum(values(query))],
    ["Data set order", (query) => query.place],
    ...data.systems.map((system, s) => [
      `${system[1]} falls behind: ${system[0]}`,
      (query) => values(query)[s] - Math.max(...values(query)),
    ]),
  ];
  if (data.systems.length < 2) orders.splice(0, orders.length, ...orders.slice(1, 3));

  let chosen = []; // positions of the queries that pass the filter, in order
  let shown = 0;

  function refresh() {
    const words = normal(find.value).split(/\s+/).filter(Boolean);
    const all = data.systems.length;
    const passes = {
      all: () => true,
      some: (i) => finders[i] > 0 && finders[i] < all,
      none: (i) => finders[i] === 0,
      every: (i) => finders[i] === all,
    }[show.value];
    const order = data.queries.map(orders[Number(sort.value)][1]);
    chosen = data.queries
      .map((_, i) => i)
      .filter((i) => passes(i) && words.every((word) => searched[i].includes(word)))
      .sort((a, b) => order[a] - order[b] || data.queries[a].place - data.queries[b].place);
    shown = 0;
    list.replaceChildren();
    addRows();
    const kept = data.queries.length;
    const left = kept < data.total ? `; ${data.total - kept} more, where systems agree, left out` : "";
    byId("count").textContent = `${chosen.length} of ${kept} queries${left}`;
  }

  function addRows() {
    const next = chosen.slice(shown, shown + PAGE);
    list.append(...next.map((i) => row(data.queries[i])));
    shown += next.length;
    byId("more").hidden = shown >= chosen.length;
  }

  function row(query) {
    const own = query.values[Number(measure.value)];
    const chips = data.systems.map((system, s) =>
      el(
        "span",
        { class: `chip v${Math.round((own[s] ?? 0) * 4)}` },
        badge(system),
        number(own[s], 2),
      ),
    );
    const head = el(
      "button",
      { type: "button", class: "head", "aria-expanded": "false" },
      el("span", { class: "question" }, korean("span", query.text || "(no text)"), el("code", {}, query.id)),
      el("span", { class: "chips" }, ...chips),
    );
    const article = el("article", { class: "query" }, head);
    head.addEventListener("click", () => {
      const open = head.getAttribute("aria-expanded") === "true";
      head.setAttribute("aria-expanded", String(!open));
      if (open) article.lastChild.remove();
      else article.append(detail(query));
    });
    return article;
  }

  // ---- One query -------------------------------------------------------------------------------
  function rankText(rank, found) {
    if (rank) return `rank ${rank}`;
    return found ? `not in its ${found}` : "nothing retrieved";
  }

  function documentText(doc) {
    const text = data.documents[doc][1];
    if (text === null) return el("p", { class: "text dim" }, "This id is not in the corpus.");
    return korean("p", text, "text");
  }

  function expectedPart(query) {
    const items = query.expected.map(([doc, relevance, ranks, group]) => {
      const places = data.systems.map((system, s) =>
        el("li", { class: ranks[s] ? "" : "dim" }, badge(system), rankText(ranks[s], query.found[s])),
      );
      const degree = relevance > 1 ? ` · relevance ${relevance}` : "";
      const instead = group ? ` · any one of group ${group} is enough` : "";
      return el(
        "div",
        { class: "expected", "data-doc": doc },
        el("p", { class: "id" }, el("code", {}, data.documents[doc][0]), degree, instead),
        documentText(doc),
        el("ul", { class: "ranks" }, ...places),
      );
    });
    if (query.more) items.push(el("p", { class: "note" }, `and ${query.more} more`));
    if (!items.length) items.push(el("p", { class: "note" }, "No document is relevant to it."));
    return [el("h3", {}, "Expected"), ...items];
  }

  function hitsPart(query, s) {
    const seen = new Set();
    const items = query.hits[s].map(([doc, score]) => {
      const again = seen.has(doc);
      seen.add(doc);
      const hit = !again && isExpected(query, doc);
      const mark = again ? ["again", "↺", "given again, not counted"] : hit ? ["hit", "✓", "expected"] : ["miss", "✗", "not expected"];
      const text = data.documents[doc][1];
      return el(
        "details",
        { class: mark[0], "data-doc": doc },
        el(
          "summary",
          {},
          el("span", { class: "rank" }, again ? "–" : String(seen.size)),
          el("span", { class: "mark", role: "img", "aria-label": mark[2], title: mark[2] }, mark[1]),
          el("code", {}, data.documents[doc][0]),
          el("span", { class: "score" }, score === null ? "no score" : String(score)),
          korean("span", text === null ? "not in the corpus" : text.slice(0, 160), "snippet"),
        ),
        documentText(doc),
      );
    });
    if (!items.length) items.push(el("p", { class: "note" }, "It retrieved nothing."));
    const system = data.systems[s];
    return el(
      "section",
      { class: "column", "aria-label": system[0] },
      el("h3", {}, badge(system), specCode(system)),
      ...items,
    );
  }

  function detail(query) {
    const columns = data.systems.map((_, s) => hitsPart(query, s));
    const node = el(
      "div",
      { class: "detail" },
      ...expectedPart(query),
      el("h3", {}, "Retrieved"),
      el("div", { class: "columns" }, ...columns),
    );
    // The same document, wherever a system put it, lights up together.
    const light = (event) => {
      const over = event.target.closest("[data-doc]");
      const same = event.type === "pointerleave" ? undefined : over?.dataset.doc;
      for (const part of node.querySelectorAll("[data-doc]")) {
        part.classList.toggle("same", part.dataset.doc === same);
      }
    };
    for (const kind of ["pointerover", "pointerleave", "focusin"]) node.addEventListener(kind, light);
    return node;
  }

  // ---- Start -----------------------------------------------------------------------------------
  const option = (label, value) => el("option", { value: String(value) }, label);
  sort.append(...orders.map(([label], i) => option(label, i)));
  measure.append(...data.measures.map(([, label], i) => option(label, i)));
  let waiting = 0;
  find.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(refresh, 120);
  });
  for (const control of [show, sort, measure]) control.addEventListener("change", refresh);
  byId("more").addEventListener("click", addRows);
  new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting)) addRows();
    },
    { rootMargin: "600px" },
  ).observe(byId("more"));
  refresh();

  // Folded parts are printed open, then folded again.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("main > section > details:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    for (const part of folded) part.open = false;
  });

  // Without a Korean font two different syllables are drawn as the same box.
  function drawn(text) {
    const canvas = el("canvas", { width: "24", height: "24" });
    const pen = canvas.getContext("2d");
    pen.font = "18px sans-serif";
    pen.fillText(text, 2, 19);
    return pen.getImageData(0, 0, 24, 24).data.join();
  }
  byId("fonts").hidden = drawn("가") !== drawn("힣");
  document.documentElement.classList.add("js");
})();
