// Types of the payloads, made from `auscult schema`: AUSCULT_WRITE=1 cargo test --release --test cli page_types

interface AdaptationMsg {
  /** Days that are remembered, 14 at most. */
  days: number
  /** Hours of the day, of UTC, whose tail is wider; all others are judged as learned. */
  hours: (WidenedHour)[]
}

interface AdaptedMsg {
  /** `p_value` as it would have been without. */
  learned_p_value: number
  /** So many times as wide as learned the tail was: `score` and `p_value` are of it. */
  times: number
}

interface AlarmMsg {
  agent: string
  /** When it was acknowledged or shelved; null where it is neither. Version 0.1 does not say it. */
  at: string | null
  /** The frequencies that differ most from the nearest normal windows, at most three ranges, the strongest first; empty without a learned baseline. */
  bands: (BandDifference)[]
  /** Who acknowledged or shelved it. */
  by: string | null
  clock?: ClockMark | null
  comment: string | null
  /** Windows that were evidence of the alarm, since shortly before it was raised; once it has cleared, in all. */
  count: number
  /** Its number in the journal (`alarm.get`); null where nothing stands, or the journal cannot be written. Older agents do not say so. */
  journal: number | null
  /** What the alarm is about; null when nothing stands. */
  kind: Kind | null
  /** The lane that was the most surprised; null without a learned baseline. */
  lane: Lane | null
  late: boolean
  /** The fault of this machine that it sounds like, as somebody has named it: `like the bearing of 3 March 2026`; null where it sounds like none, or that is not sure. Older agents do not say so. */
  like: string | null
  machine: string
  /** Share of normal windows that have a smaller distance, %, as the baseline's are distributed; null without a learned baseline. */
  percentile: number | null
  /** It was raised by what had been learned until then, while learning went on: wrong more often. Older agents do not say so. */
  provisional: boolean
  /** When the alarm of `kind` was raised, also while it is acknowledged or shelved; null where none stands. Version 0.1 does not say it. */
  raised: string | null
  /** The window that raised it: its distance as a multiple of the threshold; null where nothing stands. */
  ratio: number | null
  /** Version of the payloads. */
  schema: 1
  /** When what is shown began: the alarm, also where somebody has acknowledged it since, the shelving, the maintenance, the calm. */
  since: string
  state: AlarmState
  /** One line for a person: lane, ratio, frequencies, how sure, how many windows when this was sent; null where nothing stands. Older agents do not say so. */
  text: string | null
  ts: string
  /** When the shelving ends. */
  until: string | null
}

type AlarmState = "normal" | "active" | "acknowledged" | "shelved"

interface BandDifference {
  /** Mean over the range, dB. */
  difference_db: number
  from_hz: number
  to_hz: number
}

type ClockMark = "unsynced"

interface Command {
  by?: string | null
  command: string
  /** After this time the command is refused. */
  expires?: string | null
  /** Chosen by the sender; the reply carries it, and the same id again is done once. */
  id: string
  machine?: string | null
  reason?: string | null
  /** On `fleet/control`: only agents with this tag. */
  tag?: string | null
  [more: string]: any
}

type ErrorCode = "unknown_command" | "unknown_machine" | "bad_json" | "too_large" | "bad_argument" | "expired" | "bundle_invalid" | "state_invalid" | "busy" | "not_allowed" | "failed"

type EventKind = "mic_back" | "flat" | "clipped" | "dc_offset" | "noise" | "not_finite" | "threshold_changed" | "bundle_changed" | "maintenance_on" | "maintenance_off" | "machine_changed" | "machine_removed" | "mic_lost" | "silent" | "gap" | "overload" | "signal_back" | "bundle_failed" | "baseline_learning" | "baseline_provisional" | "baseline_learned" | "baseline_applied" | "baseline_discarded" | "baseline_failed" | "adaptation_changed" | "alarm_confirmed" | "machine_added" | "machine_ignored" | "settings_lost" | "state_imported" | "started" | "clock_jumped" | "clock_synchronised" | "certificate_ends" | "publish_denied" | "subscribe_denied" | "message_refused" | "outbox_failed" | "outbox_back" | "outbox_corrupt" | "outbox_dropped" | "seq_skipped" | "trend_lost" | "trend_failed" | "trend_back"

interface EventMsg {
  agent: string
  clock?: ClockMark | null
  /** One line for a person. */
  detail: string | null
  event: EventKind
  late: boolean
  /** Null when it concerns the whole agent. */
  machine: string | null
  /** Version of the payloads. */
  schema: 1
  ts: string
  [more: string]: any
}

interface EvidenceMsg {
  agent: string
  /** Length of the whole file, bytes. */
  bytes: number
  clock?: ClockMark | null
  /** The part's bytes in Base64; no part but the last is padded, so that the parts can simply be joined. */
  data: string
  /** `audio.wav` or `spectrogram.png`. */
  file: string
  /** Of the command; null where it had none. */
  id: string | null
  machine: string
  /** Number of this part, from 0. */
  part: number
  /** How many parts the file has. */
  parts: number
  /** Version of the payloads. */
  schema: 1
  /** SHA-256 of the whole file, hex. */
  sha256: string
  /** Time of the window's last sample. */
  ts: string
}

interface Health {
  /** Seconds until half of those that were acknowledged were; null without any. */
  acknowledge_median_s: number | null
  agent: string
  /** Share of faults among those that somebody has answered, 0..1; null without any. */
  alarm_fault_share: number | null
  /** Alarms of the last 30 days; null while the journal cannot be read. Older agents do not say so. */
  alarms: number | null
  /** Why the state of the alarms is not on disk and would not outlive a restart; null where it is. Older agents do not say so. */
  alarms_error: string | null
  /** The same a day; null until it is read for how long the agent has listened. */
  alarms_per_day: number | null
  boot: string
  /** When the first of the agent's certificate and its authority's ends; null without TLS files. */
  certificate_until: string | null
  clock?: ClockMark | null
  /** Temperature of the CPU, degrees Celsius. */
  cpu_temp_c: number | null
  /** Topics and subscriptions that the broker denies at present; what waits for them stays in the outbox. */
  denied: (string)[]
  /** Free room on the disk of the state directory, MiB. */
  disk_free_mb: number | null
  /** Messages that were given up unsent since the store was made: it was full, or they were too old. */
  dropped: number
  /** Why the sound of the last alarm is not kept; null where it is. Older agents do not say so. */
  evidence_error: string | null
  /** Control messages that were not taken in since this start, because too many came at once. */
  incoming_dropped: number
  /** Why the alarms' journal cannot be written; null where it can. */
  journal_error: string | null
  /** What last went wrong with the connection. */
  last_error: string | null
  /** One entry for each machine. */
  machines: (MachineHealth)[]
  /** Resident memory of the process, MiB. */
  memory_mb: number | null
  /** Version of MQTT that the connection speaks: 4 (which is 3.1.1) or 5; null without one. Older agents do not say so. */
  mqtt_version: number | null
  /** Bytes of the store on disk. */
  outbox_bytes: number
  /** Messages that wait for their acknowledgement. */
  outbox_depth: number
  /** Why the outbox is not on disk. */
  outbox_error: string | null
  /** Where new messages wait. */
  outbox_state: OutboxState
  /** Connections after the first since this start. */
  reconnects: number
  /** Messages that the broker will never take (too large, topic not allowed) and that were given up since this start. */
  refused: number
  /** Version of the payloads. */
  schema: 1
  /** Why the machines' past is not on disk; null where it is. */
  trend_error: string | null
  ts: string
  /** Seconds since this start. */
  uptime_s: number
}

interface Info {
  agent: string
  boot: string
  /** Name and version of the bundle in use. */
  bundle: string | null
  clock?: ClockMark | null
  /** The commands that it takes. */
  commands: (string)[]
  /** It is the demo's, because none is configured: it knows simulated machines only. Version 0.1 does not say so. */
  demo_bundle: boolean
  /** Ids of the monitored machines. */
  machines: (string)[]
  /** What people call them, by id, where that is something else. Version 0.1 has none. */
  names: Record<string, any>
  /** Version of the payloads. */
  schema: 1
  tags: (string)[]
  ts: string
  /** Version of auscult. */
  version: string
}

type Judge = "distance" | "combined"

type Kind = "fault" | "wear" | "deaf"

type Lane = "distance" | "spectrum" | "envelope" | "burst" | "shape" | "texture" | "steady"

interface MachineHealth {
  /** Share of the windows since the last health message that could be assessed, 0..1; null when there was none. */
  assessed: number | null
  /** State of the capture: `running`, `lost`, `ended`, ... */
  capture: string
  /** Why it is lost. */
  capture_problem: string | null
  /** Share of the samples of the last window that are cut off at one height, 0..1; null before the first. */
  clipped_share: number | null
  /** Mean of the samples of the last window, full scale is 1; null before the first. */
  dc: number | null
  /** Windows without a verdict since this start: given up after hours of overload. */
  dropped: number
  /** Seconds since sound last came; null before the first. */
  last_frame_age_s: number | null
  /** Level of the sound that came last, dB of full scale, floor -120; null before the first. */
  level_dbfs: number | null
  /** Times that the source was lost since this start. */
  losses: number
  /** Seconds of sound lost so. */
  lost_s: number
  machine: string
  /** Windows that could not be scored in time since this start. */
  overload: number
  /** Hours that it ran (its windows were judged), since the agent first heard it; null while that cannot be read. */
  running_h: number | null
  /** The signal's fault that lasts, as its event tells it; null without one. */
  signal: Reason | null
  /** Hours that it stood still, as far as a learned baseline shows it. */
  standing_h: number | null
  /** Hours in which it could not be judged, and nobody had planned that. */
  unheard_h: number | null
  /** Times that the capture lost samples since this start while its source was there. */
  xruns: number
}

type OutboxState = "disk" | "memory"

interface Provisional {
  /** Normal running that was heard when it was made, s. */
  heard_s: number
  /** Normal running that is wanted for the whole one, s. */
  wanted_s: number
  /** Windows that it was made from. */
  windows: number
}

type Reason = "silent" | "flat" | "clipped" | "dc_offset" | "noise" | "gap" | "no_signal" | "not_finite" | "overload" | "learning" | "machine_off" | "no_bundle" | "maintenance"

interface Reply {
  agent: string
  clock?: ClockMark | null
  /** Of the command; null where it could not be read. */
  command: string | null
  /** The command's own answer. */
  data: any
  /** Null when `status` is `ok`. */
  error: ReplyError | null
  /** Of the command; null where it could not be read. */
  id: string | null
  late: boolean
  /** Version of the payloads. */
  schema: 1
  status: ReplyStatus
  ts: string
}

interface ReplyError {
  code: ErrorCode
  /** One line that names the value and what was expected. */
  message: string
}

type ReplyStatus = "ok" | "error"

interface SettingsMsg {
  /** What recurs daily and was let in; null where `adapt` is off. Older agents do not say so. */
  adaptation: AdaptationMsg | null
  agent: string
  /** When the learning of the baseline in use began; null where there is none. */
  baseline: string | null
  /** Name and version of the bundle in use. */
  bundle: string | null
  by: string | null
  clock?: ClockMark | null
  /** Share of normal windows that all lanes together may call anomalous; null where the distance decides. Version 0.1 does not say it. */
  false_alarm_rate: number | null
  /** What decides over a window: the distance, or all lanes together, where a baseline was learned. */
  judge: Judge
  machine: string
  /** The bundle that the override was set under, where another one runs now; null otherwise. */
  made_for: string | null
  /** Windows are not judged, because somebody works on the machine. */
  maintenance: boolean
  /** When the maintenance ends by itself. */
  maintenance_until: string | null
  /** What has been learned until now judges, while learning goes on; null where it does not. Older agents do not say so. */
  provisional: Provisional | null
  reason: string | null
  /** Counts the changes of this machine's settings. */
  revision: number
  /** Version of the payloads. */
  schema: 1
  /** Where the threshold comes from. */
  source: ThresholdSource
  /** Limit of the distance; null without a bundle. */
  threshold: number | null
  ts: string
  /** When the override ends; null when it stays. */
  until: string | null
}

type State = "online" | "stopped" | "offline"

interface Status {
  /** Id of this start of the agent: tells an old will from news. */
  boot: string
  clock?: ClockMark | null
  /** Version of the payloads. */
  schema: 1
  state: State
  /** When the state began; of `offline` (the will): when the connection that it belongs to began. */
  ts: string
}

type ThresholdSource = "bundle" | "config" | "override" | "baseline"

type Verdict = "normal" | "anomalous" | "unknown"

interface VerdictMsg {
  /** Judged with a wider tail, because that recurs daily in this hour of the day; null where it was judged as learned. Older agents do not say so. */
  adapted: AdaptedMsg | null
  agent: string
  /** State of the machine's alarm with this window; null where nobody keeps one. */
  alarm: AlarmState | null
  /** Windows that speak for the alarm by now; null where none stands. Older agents do not say so. */
  alarm_windows: number | null
  /** Name and version of the bundle that it was scored with. */
  bundle: string | null
  clock?: ClockMark | null
  /** Euclidean distance to the nearest normal embedding; null where it was not computed. */
  distance: number | null
  /** The lane that `score` comes from. */
  lane: Lane | null
  /** Sent after an outage: it is history, not news. */
  late: boolean
  /** How much of what is to be learned of the machine's normal has been heard, 0..1; null while nothing is learned. Version 0.1 does not say it. */
  learning_share: number | null
  /** Root mean square level in dB of full scale, floor -120. */
  level_dbfs: number
  machine: string
  /** Share of normal windows that are as unlike it. */
  p_value: number | null
  /** Judged by what had been learned until then, while learning went on: wrong more often. Older agents do not say so. */
  provisional: boolean
  /** distance / threshold. */
  ratio: number | null
  /** Why it is `unknown`; null otherwise. */
  reason: Reason | null
  /** Version of the payloads. */
  schema: 1
  /** How unlike the learned baseline the window is over all lanes: -log10 of `p_value`; null without one. */
  score: number | null
  /** Counts the machine's windows from 0, without gaps, across restarts. The outbox sets it. */
  seq: number
  /** One line for a person: what stands about the machine, or in what this window differs; null where nothing does. Older agents do not say so. */
  text: string | null
  /** Limit of the distance; null without a bundle. */
  threshold: number | null
  /** Time of the window's last sample. */
  ts: string
  verdict: Verdict
}

interface WidenedHour {
  /** 0 to 23, of UTC. */
  hour: number
  /** So many times as wide the tail of all lanes together is. */
  times: number
}
