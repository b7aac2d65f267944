#!/usr/bin/env python3
"""Writes the dashboards and alert rules: python3 deploy/grafana/build.py (--check tells whether they are up to date).

One place for every query, so that the panels stay short and the tests can run them all on a real InfluxDB.
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
SOURCE = {"type": "influxdb", "uid": "auscult"}
RED, ORANGE, GREEN, BLUE, PURPLE, GREY = "red", "orange", "green", "blue", "purple", "#808080"


def target(query, alias=None, ref="A", table=False):
    target = {"refId": ref, "datasource": SOURCE, "rawQuery": True, "query": query, "resultFormat": "table" if table else "time_series"}
    if alias:
        target["alias"] = alias
    return target


def steps(*pairs):
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in pairs]}


def words(mapping):
    options = {str(value): {"text": text, "color": color, "index": index} for index, (value, (text, color)) in enumerate(mapping.items())}
    return [{"type": "value", "options": options}]


STATES = {0: ("normal", GREEN), 1: ("shelved", GREY), 2: ("acknowledged", ORANGE), 3: ("active", RED)}
VERDICTS = {0: ("normal", GREEN), 1: ("anomalous", RED), 2: ("not assessed", PURPLE)}
ONLINE = {0: ("offline", RED), 1: ("online", GREEN)}


class Board:
    def __init__(self, uid, title, variables=()):
        self.uid, self.title, self.panels, self.x, self.y, self.row = uid, title, [], 0, 0, 0
        self.variables = [variable(name, query) for name, query in variables]

    def add(self, kind, title, width, height, targets, unit=None, options=None, description=None, links=None, **defaults):
        if self.x + width > 24:
            self.x, self.y = 0, self.y + self.row
            self.row = 0
        if unit:
            defaults["unit"] = unit
        panel = {
            "id": len(self.panels) + 1, "type": kind, "title": title, "datasource": SOURCE, "targets": targets,
            "gridPos": {"x": self.x, "y": self.y, "w": width, "h": height},
            "fieldConfig": {"defaults": defaults, "overrides": []}, "options": options or {}, "transparent": False,
        }
        if description:
            panel["description"] = description
        if links:
            panel["fieldConfig"]["defaults"]["links"] = links
        self.panels.append(panel)
        self.x, self.row = self.x + width, max(self.row, height)
        return panel

    def json(self):
        return {
            "uid": self.uid, "title": self.title, "tags": ["auscult"], "schemaVersion": 39, "editable": True, "graphTooltip": 1,
            "refresh": "10s", "time": {"from": "now-1h", "to": "now"}, "timezone": "browser", "panels": self.panels,
            "templating": {"list": self.variables},
            "links": [{
                "title": "auscult", "type": "dashboards", "tags": ["auscult"], "asDropdown": False, "includeVars": True,
                "keepTime": True, "targetBlank": False, "icon": "external link", "tooltip": "", "url": "",
            }],
            "annotations": {"list": []}, "fiscalYearStartMonth": 0, "liveNow": False, "weekStart": "",
        }


def variable(name, query):
    return {
        "name": name, "label": name, "type": "query", "datasource": SOURCE, "query": query, "refresh": 2, "sort": 1, "multi": False,
        "includeAll": False, "skipUrlSync": False, "hide": 0, "options": [],
    }


LINES = {"custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 0, "showPoints": "auto", "spanNulls": False}}
AREA = {"custom": {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 15, "showPoints": "never", "spanNulls": False}}
LEGEND = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}, "tooltip": {"mode": "multi", "sort": "desc"}}
STAT = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "background", "graphMode": "none", "textMode": "auto"}
LAST = "WHERE time > now() - 30d GROUP BY agent, machine"


def fleet():
    board = Board("auscult-fleet", "auscult: fleet")
    now = 'FROM (SELECT last({field}) AS code FROM {of} WHERE time > now() - 30d GROUP BY {by}) WHERE code {is_}'

    def count(of, field, by, is_):
        return target("SELECT count(code) " + now.format(of=of, field=field, by=by, is_=is_), table=False)

    board.add("stat", "Machines in alarm", 4, 4, [count("alarm", "state_code", "agent, machine", "= 3")], options=STAT,
              thresholds=steps((None, GREEN), (1, RED)), noValue="0")
    board.add("stat", "Acknowledged", 4, 4, [count("alarm", "state_code", "agent, machine", "= 2")], options=STAT,
              thresholds=steps((None, GREEN), (1, ORANGE)), noValue="0")
    board.add("stat", "Machines not assessed", 4, 4, [count("verdict", "verdict_code", "agent, machine", "= 2")], options=STAT,
              thresholds=steps((None, GREEN), (1, PURPLE)), noValue="0")
    board.add("stat", "Machines normal", 4, 4, [count("verdict", "verdict_code", "agent, machine", "= 0")], options=STAT,
              thresholds=steps((None, GREEN)), noValue="0")
    board.add("stat", "Agents online", 4, 4, [count("status", "online", "agent", "= 1")], options=STAT, thresholds=steps((None, GREEN)), noValue="0")
    board.add("stat", "Agents offline", 4, 4, [count("status", "online", "agent", "= 0")], options=STAT,
              thresholds=steps((None, GREEN), (1, RED)), noValue="0")
    to_machine = [{"title": "machine", "url": "/d/auscult-machine?var-agent=${__field.labels.agent}&var-machine=${__field.labels.machine}"}]
    board.add("bargauge", "Distance as a share of the threshold", 12, 12,
              [target("SELECT last(ratio) FROM verdict WHERE $timeFilter GROUP BY agent, machine", "$tag_agent/$tag_machine")],
              options={"orientation": "horizontal", "displayMode": "basic", "reduceOptions": STAT["reduceOptions"], "showUnfilled": True},
              unit="percentunit", min=0, max=2, thresholds=steps((None, GREEN), (0.8, ORANGE), (1, RED)), links=to_machine)
    board.add("state-timeline", "Alarms", 12, 12,
              [target("SELECT last(state_code) FROM alarm WHERE $timeFilter GROUP BY time($__interval), agent, machine fill(previous)", "$tag_agent/$tag_machine")],
              options={"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "alignValue": "left", "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []}},
              mappings=words(STATES), thresholds=steps((None, GREEN)), custom={"fillOpacity": 80, "lineWidth": 0})
    board.add("table", "Events", 24, 9,
              [target("SELECT event, agent, machine, detail FROM (SELECT detail, late FROM event WHERE $timeFilter GROUP BY agent, machine, event) ORDER BY time DESC LIMIT 100", table=True)])
    return board


def machine():
    board = Board("auscult-machine", "auscult: machine", [
        ("agent", 'SHOW TAG VALUES FROM verdict WITH KEY = "agent"'),
        ("machine", "SHOW TAG VALUES FROM verdict WITH KEY = \"machine\" WHERE agent = '$agent'"),
    ])
    one = "agent = '$agent' AND machine = '$machine' AND $timeFilter"
    board.add("stat", "Alarm", 4, 4, [target("SELECT last(state_code) FROM alarm WHERE agent = '$agent' AND machine = '$machine' AND time > now() - 30d")],
              options=STAT, mappings=words(STATES), thresholds=steps((None, GREEN)))
    board.add("stat", "Last window", 4, 4, [target(f"SELECT last(verdict_code) FROM verdict WHERE {one}")], options=STAT, mappings=words(VERDICTS),
              thresholds=steps((None, GREEN)))
    board.add("stat", "Distance", 4, 4, [target(f"SELECT last(distance) FROM verdict WHERE {one}")], options=STAT, decimals=3, thresholds=steps((None, BLUE)))
    board.add("stat", "Threshold", 4, 4, [target(f"SELECT last(threshold) FROM verdict WHERE {one}")], options=STAT, decimals=3, thresholds=steps((None, BLUE)))
    board.add("stat", "Anomalous windows", 4, 4, [target(f"SELECT count(seq) FROM verdict WHERE verdict = 'anomalous' AND {one}")], options=STAT,
              thresholds=steps((None, BLUE)), noValue="0")
    board.add("stat", "Windows not assessed", 4, 4, [target(f"SELECT count(seq) FROM verdict WHERE verdict = 'unknown' AND {one}")], options=STAT,
              thresholds=steps((None, BLUE)), noValue="0")
    board.add("timeseries", "Distance and threshold", 24, 10, [
        target(f"SELECT max(distance) FROM verdict WHERE {one} GROUP BY time($__interval) fill(none)", "distance"),
        target(f"SELECT last(threshold) FROM verdict WHERE {one} GROUP BY time($__interval) fill(none)", "threshold", "B"),
    ], options=LEGEND, min=0, decimals=3, **LINES)
    board.add("state-timeline", "Windows", 24, 4,
              [target(f"SELECT max(verdict_code) FROM verdict WHERE {one} GROUP BY time($__interval) fill(none)", "verdict")],
              options={"mergeValues": True, "showValue": "never", "rowHeight": 0.9, "alignValue": "left", "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}},
              mappings=words(VERDICTS), thresholds=steps((None, GREEN)), custom={"fillOpacity": 80, "lineWidth": 0})
    board.add("timeseries", "Level", 12, 8, [target(f"SELECT mean(level_dbfs) FROM verdict WHERE {one} GROUP BY time($__interval) fill(none)", "dBFS")],
              options=LEGEND, max=0, **LINES)
    board.add("timeseries", "Why windows were not assessed", 12, 8, [
        target(f"SELECT count(seq) FROM verdict WHERE reason = '{reason}' AND {one} GROUP BY time($__interval) fill(none)", reason.replace("_", " "), chr(ord("A") + index))
        for index, reason in enumerate(["no_signal", "silent", "clipped", "noise", "gap", "flat", "overload", "machine_off", "maintenance", "learning"])
    ], options=LEGEND, custom={"drawStyle": "bars", "fillOpacity": 60, "stacking": {"mode": "normal", "group": "A"}})
    board.add("table", "Settings", 12, 8, [target(f"SELECT threshold, source, \"by\", reason FROM settings WHERE {one} ORDER BY time DESC LIMIT 50", table=True)])
    board.add("table", "Alarms and who answered", 12, 8, [target(f"SELECT state, kind, \"count\", \"by\", comment FROM alarm WHERE {one} ORDER BY time DESC LIMIT 50", table=True)])
    return board


def agents():
    board = Board("auscult-agents", "auscult: agent health", [("agent", 'SHOW TAG VALUES FROM health WITH KEY = "agent"')])
    one = "agent =~ /^$agent$/ AND $timeFilter"
    board.variables[0].update(multi=True, includeAll=True)
    by = "GROUP BY time($__interval), agent fill(none)"

    def line(title, field, how="mean", **rest):
        board.add("timeseries", title, 12, 8, [target(f"SELECT {how}({field}) FROM health WHERE {one} {by}", "$tag_agent")], options=LEGEND, **AREA, **rest)

    board.add("state-timeline", "Connection", 24, 7,
              [target(f"SELECT last(online) FROM status WHERE {one} GROUP BY time($__interval), agent fill(previous)", "$tag_agent")],
              options={"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "alignValue": "left", "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []}},
              mappings=words(ONLINE), thresholds=steps((None, GREEN)), custom={"fillOpacity": 80, "lineWidth": 0})
    line("Messages waiting", "outbox_depth", "max")
    line("Processor temperature", "cpu_temp_c", unit="celsius")
    line("Memory", "memory_mb", unit="mbytes")
    line("Uptime", "uptime_s", "last", unit="s")
    board.add("timeseries", "Connections lost", 12, 8,
              [target(f"SELECT non_negative_difference(last(reconnects)) FROM health WHERE {one} {by}", "$tag_agent")], options=LEGEND, **AREA)
    board.add("timeseries", "Messages given up", 12, 8,
              [target(f"SELECT non_negative_difference(last(dropped)) FROM health WHERE {one} {by}", "$tag_agent")], options=LEGEND, **AREA,
              description="The outbox was full or its messages too old.")
    board.add("table", "Agents whose clock is not set", 12, 6,
              [target("SELECT last(clock_unsynced) AS clock_off FROM health WHERE time > now() - 3m GROUP BY agent", table=True)])
    board.add("table", "What last went wrong", 12, 6, [target(f"SELECT last(last_error) AS problem FROM health WHERE {one} GROUP BY agent", table=True)])
    return board


def rule(uid, title, query, minutes, summary, above=0):
    model = {"refId": "A", "datasource": SOURCE, "rawQuery": True, "query": query, "resultFormat": "time_series", "intervalMs": 10000, "maxDataPoints": 1000}
    expr = {"type": "__expr__", "uid": "__expr__"}
    return {
        "uid": uid, "title": title, "condition": "C", "for": f"{minutes}m", "noDataState": "OK", "execErrState": "Error",
        "labels": {"source": "auscult"}, "annotations": {"summary": summary},
        "data": [
            {"refId": "A", "relativeTimeRange": {"from": 600, "to": 0}, "datasourceUid": "auscult", "model": model},
            {"refId": "B", "datasourceUid": "__expr__", "model": {"refId": "B", "datasource": expr, "type": "reduce", "expression": "A", "reducer": "last", "settings": {"mode": "dropNN"}}},
            {"refId": "C", "datasourceUid": "__expr__", "model": {"refId": "C", "datasource": expr, "type": "threshold", "expression": "B", "conditions": [{"evaluator": {"type": "gt", "params": [above]}}]}},
        ],
    }


def rules():
    machine = "{{ $labels.agent }}/{{ $labels.machine }}"
    return {"apiVersion": 1, "groups": [{"orgId": 1, "name": "auscult", "folder": "auscult", "interval": "30s", "rules": [
        rule("auscult-alarm", "Machine alarm", f"SELECT last(state_code) FROM alarm {LAST}", 0, f"{machine} is in alarm and nobody has answered", above=2),
        rule("auscult-offline", "Agent offline", "SELECT 1 - last(online) FROM status WHERE time > now() - 30d GROUP BY agent", 2, "{{ $labels.agent }} is offline"),
        rule("auscult-mic", "Microphone lost", "SELECT count(seq) FROM verdict WHERE reason = 'no_signal' AND time > now() - 2m GROUP BY agent, machine", 1,
             f"{machine} cannot be heard: its microphone delivers nothing"),
        rule("auscult-clock", "Clock off", "SELECT last(clock_unsynced) FROM health WHERE time > now() - 3m GROUP BY agent", 10,
             "the clock of {{ $labels.agent }} has not been set since it started"),
    ]}]}


def yaml(value, indent=0):
    """YAML enough for the rules: every scalar as JSON, which YAML reads."""
    pad = "  " * indent
    if isinstance(value, dict):
        return "".join(f"{pad}{key}:" + (f"\n{yaml(item, indent + 1)}" if isinstance(item, (dict, list)) and item else f" {json.dumps(item)}\n") for key, item in value.items())
    lines = []
    for item in value:
        text = yaml(item, indent + 1) if isinstance(item, (dict, list)) else f"{pad}  {json.dumps(item)}\n"
        lines.append(f"{pad}- " + text[len(pad) + 2:])
    return "".join(lines)


def main():
    files = {f"dashboards/{name}.json": json.dumps(board().json(), indent=1) + "\n" for name, board in {"fleet": fleet, "machine": machine, "agents": agents}.items()}
    files["provisioning/alerting/auscult.yaml"] = "# Made by build.py.\n" + yaml(rules())
    stale = [name for name, text in files.items() if not (HERE / name).exists() or (HERE / name).read_text() != text]
    if "--check" in sys.argv:
        if stale:
            sys.exit(f"{', '.join(stale)}: not what build.py makes; run python3 deploy/grafana/build.py")
        return
    for name, text in files.items():
        (HERE / name).write_text(text)


main()
