interface AlarmMsg {
  agent: string
  bands: (BandDifference)[]
  by: string | null
  clock?: ClockMark | null
  comment: string | null
  count: number
  kind: Kind | null
  lane: Lane | null
  late: boolean
  machine: string
  percentile: number | null
  ratio: number | null
  schema: 1
  since: string
  state: AlarmState
  ts: string
  until: string | null
}

type AlarmState = "normal" | "active" | "acknowledged" | "shelved"

interface BandDifference {
  difference_db: number
  from_hz: number
  to_hz: number
}

type ClockMark = "unsynced"

interface Command {
  by?: string | null
  command: string
  expires?: string | null
  id: string
  machine?: string | null
  reason?: string | null
  tag?: string | null
  [more: string]: any
}

type ErrorCode = "unknown_command" | "unknown_machine" | "bad_json" | "too_large" | "bad_argument" | "expired" | "bundle_invalid" | "busy" | "not_allowed" | "failed"

type EventKind = "mic_back" | "flat" | "clipped" | "dc_offset" | "noise" | "not_finite" | "threshold_changed" | "bundle_changed" | "maintenance_on" | "maintenance_off" | "mic_lost" | "silent" | "gap" | "overload" | "signal_back" | "bundle_failed" | "baseline_learning" | "baseline_learned" | "baseline_applied" | "baseline_discarded" | "baseline_failed" | "settings_lost" | "started" | "clock_jumped" | "clock_synchronised" | "outbox_failed" | "outbox_back" | "outbox_corrupt" | "outbox_dropped"

interface EventMsg {
  agent: string
  clock?: ClockMark | null
  detail: string | null
  event: EventKind
  late: boolean
  machine: string | null
  schema: 1
  ts: string
  [more: string]: any
}

interface EvidenceMsg {
  agent: string
  bytes: number
  clock?: ClockMark | null
  data: string
  file: string
  id: string | null
  machine: string
  part: number
  parts: number
  schema: 1
  sha256: string
  ts: string
}

interface Health {
  agent: string
  boot: string
  clock?: ClockMark | null
  cpu_temp_c: number | null
  dropped: number
  incoming_dropped: number
  last_error: string | null
  machines: (MachineHealth)[]
  memory_mb: number | null
  outbox_bytes: number
  outbox_depth: number
  outbox_error: string | null
  outbox_state: OutboxState
  reconnects: number
  schema: 1
  ts: string
  uptime_s: number
}

interface Info {
  agent: string
  boot: string
  bundle: string | null
  clock?: ClockMark | null
  commands: (string)[]
  machines: (string)[]
  schema: 1
  tags: (string)[]
  ts: string
  version: string
}

type Judge = "distance" | "combined"

type Kind = "fault" | "wear" | "deaf"

type Lane = "distance" | "spectrum" | "envelope" | "burst"

interface MachineHealth {
  assessed: number | null
  capture: string
  capture_problem: string | null
  clipped_share: number | null
  dc: number | null
  dropped: number
  last_frame_age_s: number | null
  level_dbfs: number | null
  losses: number
  lost_s: number
  machine: string
  overload: number
  signal: Reason | null
  xruns: number
}

type OutboxState = "disk" | "memory"

type Reason = "silent" | "flat" | "clipped" | "dc_offset" | "noise" | "gap" | "no_signal" | "not_finite" | "overload" | "learning" | "machine_off" | "no_bundle" | "maintenance"

interface Reply {
  agent: string
  clock?: ClockMark | null
  command: string | null
  data: any
  error: ReplyError | null
  id: string | null
  late: boolean
  schema: 1
  status: ReplyStatus
  ts: string
}

interface ReplyError {
  code: ErrorCode
  message: string
}

type ReplyStatus = "ok" | "error"

interface SettingsMsg {
  agent: string
  baseline: string | null
  bundle: string | null
  by: string | null
  clock?: ClockMark | null
  judge: Judge
  machine: string
  made_for: string | null
  maintenance: boolean
  maintenance_until: string | null
  reason: string | null
  revision: number
  schema: 1
  source: ThresholdSource
  threshold: number | null
  ts: string
  until: string | null
}

type State = "online" | "stopped" | "offline"

interface Status {
  boot: string
  clock?: ClockMark | null
  schema: 1
  state: State
  ts: string
}

type ThresholdSource = "bundle" | "config" | "override" | "baseline"

type Verdict = "normal" | "anomalous" | "unknown"

interface VerdictMsg {
  agent: string
  alarm: AlarmState | null
  bundle: string | null
  clock?: ClockMark | null
  distance: number | null
  lane: Lane | null
  late: boolean
  level_dbfs: number
  machine: string
  p_value: number | null
  ratio: number | null
  reason: Reason | null
  schema: 1
  score: number | null
  seq: number
  threshold: number | null
  ts: string
  verdict: Verdict
}

