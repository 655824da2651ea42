// Draws a workflow from top to bottom, as high as it needs, with names that can be read.
$(function () {
  "use strict";
  var FONT = 14, LINE = 18, MARGIN = 10, PADDING = 20, CONTROLS = 60, SMALLEST_ZOOM = 0.6;
  var LOWEST = 500, HIGHEST = 6000, MOST_ALIKE = 12;
  var measure = document.createElement("canvas").getContext("2d");
  measure.font = FONT + "px sans-serif";

  // Jobs between the same others, of one kind and state, become one node when they are many.
  function gathered(nodes, edges) {
    var around = {}, groups = {}, place = {};
    nodes.forEach(function (node) { around[node.data.id] = { before: [], after: [] }; });
    edges.forEach(function (edge) {
      around[edge.data.source].after.push(edge.data.target);
      around[edge.data.target].before.push(edge.data.source);
    });
    nodes.forEach(function (node) {
      var data = node.data, links = around[data.id], kind = data.name.split(" | ").pop();
      var alike = JSON.stringify([kind, data.state, links.before.sort(), links.after.sort()]);
      (groups[alike] = groups[alike] || []).push(data);
    });
    var kept = [];
    Object.keys(groups).forEach(function (alike) {
      var members = groups[alike];
      if (members.length <= MOST_ALIKE) {
        members.forEach(function (data) { kept.push(data); place[data.id] = data.id; });
        return;
      }
      var kind = members[0].name.split(" | ").pop();
      var id = "group" + members[0].id;
      kept.push({ id: id, name: members.length + " jobs | " + kind, state: members[0].state,
                  members: members });
      members.forEach(function (data) { place[data.id] = id; });
    });
    var drawn = {};
    edges.forEach(function (edge) {
      var from = place[edge.data.source], to = place[edge.data.target];
      drawn[from + ">" + to] = { data: { source: String(from), target: String(to) } };
    });
    return {
      nodes: kept.map(shaped),
      edges: Object.keys(drawn).map(function (key) { return drawn[key]; })
    };
  }

  // Black or white, whichever can be read on a colour.
  function contrast(colour) {
    var parts = [1, 3, 5].map(function (at) { return parseInt(colour.substr(at, 2), 16); });
    return 0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2] > 120 ? "#111" : "#fff";
  }

  function shaped(data) {
    var lines = data.name.split(" | ");
    var widths = lines.map(function (line) { return measure.measureText(line).width; });
    data.id = String(data.id);
    data.text = contrast(data.state);
    data.label = lines.join("\n");
    data.width = Math.max.apply(null, widths) + 2 * MARGIN;
    data.height = lines.length * LINE + MARGIN;
    return { data: data };
  }

  function show(data) {
    if (data.members) {
      var list = $("<ul>");
      data.members.forEach(function (member) {
        $("<a>").attr("href", "/fw/" + member.id).text(member.name)
          .appendTo($("<li>").appendTo(list));
      });
      $("#job-details-target").empty().append(list);
      return;
    }
    $.getJSON("/fw/" + data.id + "/details", function (details) {
      $("#job-details-target").html(Handlebars.compile($("#job-details").html())(details));
    });
  }

  function fit(cy) {
    var box = cy.elements().boundingBox();
    var zoom = Math.min(1, (cy.container().clientWidth - CONTROLS - PADDING) / box.w);
    zoom = Math.max(zoom, SMALLEST_ZOOM);
    var height = Math.max(LOWEST, Math.min(HIGHEST, box.h * zoom + 2 * PADDING));
    $(cy.container()).height(height);
    cy.resize();
    var left = Math.max(CONTROLS, (cy.container().clientWidth - box.w * zoom) / 2);
    cy.viewport({ zoom: zoom, pan: { x: left - box.x1 * zoom, y: PADDING - box.y1 * zoom } });
  }

  var id = $("#wf_id").text();
  if (typeof json !== "undefined" && json.name) {
    $("h4").first().text("Workflow " + id + ": " + json.name);
  }
  $.getJSON("/wf/" + id + "/json", function (found) {
    $("#json").JSONView("collapse");
    var cy = cytoscape({
      container: document.getElementById("cy"),
      elements: gathered(found.nodes, found.edges),
      userZoomingEnabled: false,  // the wheel scrolls the page
      style: [
        {
          selector: "node",
          css: {
            "content": "data(label)",
            "text-wrap": "wrap",
            "text-valign": "center",
            "font-size": FONT,
            "font-family": "sans-serif",
            "shape": "rectangle",
            "width": "data(width)",
            "height": "data(height)",
            "color": "data(text)",
            "background-color": "data(state)"
          }
        },
        {
          selector: "edge",
          css: { "width": 1.5, "line-color": "#bbb", "target-arrow-color": "#bbb",
                 "target-arrow-shape": "triangle" }
        },
        { selector: ":selected", css: { "border-width": 3, "border-color": "#000" } }
      ],
      layout: { name: "dagre", rankDir: "TB", nodeSep: 12, rankSep: 40, fit: false },
      ready: function () {
        this.panzoom();
        fit(this);
        this.on("click", "node", function () { show(this.data()); });
      }
    });
    window.cy = cy;
  });
});
