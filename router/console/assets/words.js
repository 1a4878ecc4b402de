// All that the page says, in both languages. A word that is missing shows as ⟦key⟧: a test looks for it.
const WORDS = {
  en: {
    skip: "To the answer", answer: "Now", emitting: "Emitting now", against: "Against latency-first", met: "Latency budgets met",
    key_emitted: "emitted", key_saved: "saved", key_first: "latency-first would emit", last_minutes: "last {n} min",
    less_than: "{x} less", more_than: "{x} more", same_as: "the same", of_budgets: "of answers that had one, last 10 s", no_budgets: "no answer had one lately",
    lanes: "Regions, cleanest first", lanes_note: "What each grid emits, a day behind and a day ahead; arcs lead from where latency-first would have sent requests.",
    region: "Region", intensity: "g/kWh now", hours: "24 h behind · 24 h ahead, 90 % band", moved: "Moved", traffic: "Requests", replicas: "Replicas",
    latency: "Latency against budgets", budgets: "Carbon budgets today", errors: "Forecast against actual", decisions: "Newest decisions",
    at: "At", model: "Model", from: "From", to: "Went to", grams_predicted: "Predicted", less: "vs latency-first", grams_receipt: "Receipt", e2e: "End to end", notes: "Notes",
    what_if: "What if", what_if_note: "The decisions kept here, taken again by another policy, before it is rolled out. To first order: the fleet is as each decision saw it.",
    policy: "Policy", try_it: "Decide again", theme_auto: "Theme: auto", theme_light: "Theme: light", theme_dark: "Theme: dark", zone_utc: "Times: UTC", zone_local: "Times: local",
    lang: "한국어", csv: "CSV", live: "live", waiting: "connecting", lost: "reconnecting", hidden: "paused", refused: "not allowed",
    ready: "ready", degraded: "degraded", not_ready: "not ready", replay: "replaying ×{n}", unknown: "unknown", none: "–",
    measured: "measured", estimated: "estimated", calibrated: "calibrated", reported: "reported", emulated: "emulated", forecast: "forecast", climatology: "climatology", annual_mean: "annual mean", predicted: "predicted",
    kinds_note: "How a figure is known: measured, estimated by a profile, forecast, or emulated (no real hardware). Decisions are predictions; receipts count what was then used.",
    stale: "stale", all_regions: "Show all {n}", few_regions: "Show fewer", awake: "busy", idle: "idle", probing: "probing", ejected: "out",
    sum_emitted: "emitted since start", sum_saved: "saved since start, net", sum_energy: "IT energy", sum_requests: "answered", sum_refused: "refused", sum_unaccounted: "not accounted", sum_own: "since you look on: your requests",
    of_it: "of what latency-first would emit", no_latency: "No answers in the last minute.", no_budget_accounts: "No carbon budgets are configured, or none is yours.", no_errors: "No forecast hour was observed yet.", no_decisions: "No decisions yet.",
    median: "median", p95: "95 %", budget: "budget", kept: "{x} kept", ttft: "first token", e2e_short: "whole answer", left: "left", spent: "spent", of_limit: "of {x}", others: "all others", fleet: "whole fleet", shadow: "shadow",
    lead: "{n} h ahead", published: "published", own: "ours", used: "used", hours_met: "{n} h met", error_note: "Mean absolute error, g/kWh.",
    sample: "A sample, kept by chance {x}; refusals and retries come first.", hold: "Hold", go_on: "Go on", open_it: "Open decision {x}", refused_for: "refused: {x}",
    why_went: "Went to {x}: {g}", would_emit: ", {d} against latency-first, which would have taken {x} ({g}).", it_is_nearest: ". Latency-first would have gone there, too.", lost_by: "Of the others, {x}.", cost_more: "{n} cost more", excluded_for: "{n} {x}",
    unhealthy: "unhealthy", residency: "outside residency", context_length: "context too short", not_finite: "figures not usable", carbon_unknown: "carbon unknown", carbon_budget: "beyond the carbon limit", full: "full", ttft_budget: "first token too late", tpot_budget: "tokens too slow", e2e_budget: "answer too late", chosen: "chosen",
    rank: "Rank", endpoint: "Endpoint", grams: "Grams", premium: "Premium", load: "Load", cost: "Cost", why: "Why not", terms: "Cost by term", energy: "Energy", term_grams: "grams", term_premium: "premium", term_ttft: "first token", term_e2e: "whole answer", term_rest: "load, turns", not_shown: "{n} more are not shown.", gone: "That decision is no longer kept here. The ledger may have it: carbon-router replay.",
    close: "Close", id: "Decision", request: "Request", tenant: "Tenant", variant: "Variant (quality)", origin: "Origin", chance: "Kept by chance", attempt: "Attempt", relaxed: "Relaxed", flags: "Flags", receipt: "Receipt", no_receipt: "not answered yet",
    endpoints_of: "Endpoints", limits: "Budgets", state: "State", in_flight: "In flight", cause: "Cause", models: "Models", source: "Source", pue: "PUE", zone: "Grid zone", observed: "Known since",
    if_moved: "{x} of about {n} requests would go elsewhere", if_then: "then", if_now: "by {x}", if_refused: "refused", if_ttft: "first token, median / 95 %", if_energy: "energy", if_region: "requests by region", if_none: "No decisions are kept yet: wait a little.", working: "Deciding …", interval: "95 % interval {a} – {b}",
    go_back: "Go back", time: "Time", earlier: "‹ Earlier", later_on: "Later ›", hour_earlier: "« 1 h", hour_later: "1 h »", to_live: "Back to live (L)", n_minutes: "{n} min", n_hours: "{n} h",
    as_it_was: "As it was: {x}.", from_recent: "From what was shown then.", from_ledger: "From the ledger.", seen_by_decision: "Grids and endpoints as the decision at {x} saw them.", not_whole: "Not all rows could be read in time.",
    working_past: "Looking …", past_unknown: "Nothing is known of that time here.", past_busy: "The ledger did not answer in time: ask again.", reach_recent: "The last {x} that somebody looked on are kept.", reach_nothing: "Nothing is kept yet: what is shown from now on is, for 15 minutes.",
    reach_no_ledger: "No ledger is configured, so only the last minutes can be looked at again.", reach_not_yours: "The ledger does not say whose rows are whose.", reach_ledger: "The ledger has {n} hours of the last month, from {x} on. Arrow keys move along; [ and ] step, { and } by the hour.",
    answer_then: "Then", emitting_then: "Emitting then", intensity_then: "g/kWh then", budgets_then: "Carbon budgets that day", decisions_then: "Newest decisions then", errors_then: "Forecast then, and what came", hours_then: "24 h behind · forecast then, 90 % band, and what came",
    sums_of: "in the {n} before", sum_emitted_then: "emitted", sum_saved_then: "saved, net", sum_failed: "failed", not_kept: "The ledger does not keep what was left of budgets.", no_came: "Nothing of the hours ahead of it was observed yet.", came_note: "Of the hours ahead of that moment that were observed since: by how much its forecast missed them, mean, g/kWh.", hours_come: "hours", missed_by: "missed by", came_key: "Dashed: forecast then, with its band. Solid behind the line: what came.",
    met_aria: "{n} hours forecast and then observed; mean absolute error of what was used {x} g/kWh", observed_line: "observed", sample_kept: "Those that the ledger kept: a share by chance, and all that refused or followed a failure.", otherwise: "This version decides otherwise in: {x}.",
    deferred: "What waits", deferred_note: "Requests that may wait, by the hour and region they are planned for.", waits: "Requests that wait: {n}, in batches: {b}; under way: {u}.", wait_saves: "Waiting is expected to save, against running at once,", wait_unknown: "What waiting saves is not known.", planned_at: "Planned at {x}.", nothing_waits: "Nothing waits.", next_releases: "Next releases", at_risk: "Deadlines at risk", none_at_risk: "No deadline is at risk.", deadline: "deadline", no_places: "None of it has a place yet.", planned_by_hour: "Requests by region and hour", later: "{n} more are planned later.",
    wait_released_greenest: "released now", wait_released_urgent: "no time left to wait", wait_waits_greener: "waits for a greener hour", wait_waits_room: "waits for room", wait_no_room: "no room before its deadline", wait_expired: "its deadline has passed", wait_unplanned: "released at once: nothing to plan by",
    play: "Play", pause: "Pause", pace_of: "Pace ×{x}", recorded: "recording", recorded_at: "{x} · {a} of {b} s. Space plays and pauses, [ and ] move by 5 s.", no_recording: "This browser cannot open the recording: it needs DecompressionStream.", gone_recorded: "Of this decision only its line was recorded.", past: "past",
    door: "Who looks on?", door_note: "This gateway shows its console to whoever has the token of its admin port, or a key with the role operator or control.", door_token: "Token or key", door_open: "Open", door_wrong: "That was refused.", spoken: "Emitting {a}, {b} against latency-first, {c} of latency budgets met.", scope: "You see what is of {x}", processes: "Sums are of {n} processes; decisions and latencies of one.", asks: "Requests", per_s: "/s", no_gateway: "The gateway cannot be reached.", emulated_fleet: "Servers are emulated: no figure here is of real hardware.", moved_from: "{n} from {x}", nobody: "nobody"
  },
  ko: {
    skip: "핵심으로 이동", answer: "지금", emitting: "현재 배출", against: "지연 우선 대비", met: "지연 예산 준수",
    key_emitted: "배출", key_saved: "절감", key_first: "지연 우선이라면 배출했을 양", last_minutes: "최근 {n}분",
    less_than: "{x} 적음", more_than: "{x} 많음", same_as: "동일", of_budgets: "예산이 있던 응답 중, 최근 10초", no_budgets: "최근 예산이 있던 응답 없음",
    lanes: "지역, 깨끗한 순", lanes_note: "각 전력망의 배출 강도, 지난 하루와 앞으로 하루. 호는 지연 우선이 보냈을 곳에서 출발합니다.",
    region: "지역", intensity: "현재 g/kWh", hours: "지난 24시간 · 앞으로 24시간, 90 % 구간", moved: "이동", traffic: "요청", replicas: "복제본",
    latency: "예산 대비 지연", budgets: "오늘의 탄소 예산", errors: "예측 대 실제", decisions: "최근 결정",
    at: "시각", model: "모델", from: "출발", to: "도착", grams_predicted: "예상", less: "지연 우선 대비", grams_receipt: "영수증", e2e: "전체 시간", notes: "비고",
    what_if: "만약에", what_if_note: "여기 남은 결정을 다른 정책으로 다시 내려 봅니다. 1차 근사: 함대는 각 결정이 본 그대로입니다.",
    policy: "정책", try_it: "다시 결정", theme_auto: "테마: 자동", theme_light: "테마: 밝게", theme_dark: "테마: 어둡게", zone_utc: "시각: UTC", zone_local: "시각: 현지",
    lang: "English", csv: "CSV", live: "실시간", waiting: "연결 중", lost: "재연결 중", hidden: "일시 정지", refused: "허용되지 않음",
    ready: "준비됨", degraded: "저하됨", not_ready: "준비 안 됨", replay: "재생 ×{n}", unknown: "알 수 없음", none: "–",
    measured: "측정", estimated: "추정", calibrated: "보정", reported: "보고", emulated: "모의", forecast: "예측", climatology: "기후값", annual_mean: "연평균", predicted: "예상",
    kinds_note: "수치의 출처: 측정, 프로필 추정, 예측, 또는 모의(실제 하드웨어 아님). 결정은 예상이고 영수증은 실제 사용량을 셉니다.",
    stale: "오래됨", all_regions: "전체 {n}개 보기", few_regions: "줄여 보기", awake: "사용 중", idle: "유휴", probing: "시험 중", ejected: "제외",
    sum_emitted: "시작 이후 배출", sum_saved: "시작 이후 순절감", sum_energy: "IT 에너지", sum_requests: "응답", sum_refused: "거절", sum_unaccounted: "미집계", sum_own: "보기 시작한 이후: 내 요청",
    of_it: "지연 우선 배출량 중", no_latency: "최근 1분간 응답이 없습니다.", no_budget_accounts: "설정된 탄소 예산이 없거나 내 것이 없습니다.", no_errors: "아직 관측된 예측 시간이 없습니다.", no_decisions: "아직 결정이 없습니다.",
    median: "중앙값", p95: "95 %", budget: "예산", kept: "{x} 준수", ttft: "첫 토큰", e2e_short: "전체 응답", left: "남음", spent: "사용", of_limit: "{x} 중", others: "그 밖의 모두", fleet: "전체 함대", shadow: "그림자",
    lead: "{n}시간 앞", published: "공표", own: "자체", used: "사용", hours_met: "{n}시간 대조", error_note: "평균 절대 오차, g/kWh.",
    sample: "표본입니다. 보관 확률 {x}; 거절과 재시도가 우선입니다.", hold: "멈춤", go_on: "계속", open_it: "결정 {x} 열기", refused_for: "거절: {x}",
    why_went: "{x}(으)로 감: {g}", would_emit: ", {x}({g})을(를) 택했을 지연 우선 대비 {d}.", it_is_nearest: ". 지연 우선도 같은 곳을 택했습니다.", lost_by: "나머지 중 {x}.", cost_more: "{n}개는 비용이 더 큼", excluded_for: "{n}개는 {x}",
    unhealthy: "비정상", residency: "데이터 거주 지역 밖", context_length: "문맥 길이 부족", not_finite: "수치 사용 불가", carbon_unknown: "탄소 정보 없음", carbon_budget: "탄소 한도 초과", full: "가득 참", ttft_budget: "첫 토큰이 늦음", tpot_budget: "토큰이 느림", e2e_budget: "응답이 늦음", chosen: "선택됨",
    rank: "순위", endpoint: "엔드포인트", grams: "그램", premium: "프리미엄", load: "부하", cost: "비용", why: "제외 이유", terms: "항목별 비용", energy: "에너지", term_grams: "그램", term_premium: "프리미엄", term_ttft: "첫 토큰", term_e2e: "전체 응답", term_rest: "부하, 차례", not_shown: "{n}개는 표시하지 않았습니다.", gone: "이 결정은 더 이상 여기 없습니다. 원장에 있을 수 있습니다: carbon-router replay.",
    close: "닫기", id: "결정", request: "요청", tenant: "테넌트", variant: "변형 (품질)", origin: "출발지", chance: "보관 확률", attempt: "시도", relaxed: "완화", flags: "표시", receipt: "영수증", no_receipt: "아직 응답 없음",
    endpoints_of: "엔드포인트", limits: "예산", state: "상태", in_flight: "처리 중", cause: "원인", models: "모델", source: "출처", pue: "PUE", zone: "전력망 구역", observed: "알려진 시각",
    if_moved: "약 {n}개 요청 중 {x}이(가) 다른 곳으로 갑니다", if_then: "당시", if_now: "{x}", if_refused: "거절", if_ttft: "첫 토큰, 중앙값 / 95 %", if_energy: "에너지", if_region: "지역별 요청", if_none: "아직 남은 결정이 없습니다. 잠시 기다리세요.", working: "결정 중 …", interval: "95 % 구간 {a} – {b}",
    go_back: "지난 시각", time: "시각", earlier: "‹ 이전", later_on: "이후 ›", hour_earlier: "« 1시간", hour_later: "1시간 »", to_live: "실시간으로 (L)", n_minutes: "{n}분", n_hours: "{n}시간",
    as_it_was: "당시 모습: {x}.", from_recent: "그때 보여 준 그대로입니다.", from_ledger: "원장에서 읽었습니다.", seen_by_decision: "전력망과 엔드포인트는 {x}의 결정이 본 대로입니다.", not_whole: "제시간에 모든 행을 읽지 못했습니다.",
    working_past: "찾는 중 …", past_unknown: "여기에는 그 시각에 대해 알려진 것이 없습니다.", past_busy: "원장이 제시간에 답하지 않았습니다. 다시 시도하세요.", reach_recent: "누군가 보고 있던 최근 {x}이(가) 남아 있습니다.", reach_nothing: "아직 남은 것이 없습니다. 지금부터 보이는 것은 15분간 남습니다.",
    reach_no_ledger: "설정된 원장이 없어 최근 몇 분만 다시 볼 수 있습니다.", reach_not_yours: "원장에는 어느 행이 누구의 것인지 없습니다.", reach_ledger: "원장에 지난 한 달 중 {n}시간이 있습니다({x}부터). 화살표 키로 옮기고 [ 와 ] 로 한 걸음, { 와 } 로 한 시간씩 움직입니다.",
    answer_then: "당시", emitting_then: "당시 배출", intensity_then: "당시 g/kWh", budgets_then: "그날의 탄소 예산", decisions_then: "당시 최근 결정", errors_then: "당시 예측과 실제", hours_then: "지난 24시간 · 당시 예측, 90 % 구간, 그리고 실제",
    sums_of: "직전 {n} 동안", sum_emitted_then: "배출", sum_saved_then: "순절감", sum_failed: "실패", not_kept: "원장은 예산의 잔량을 보관하지 않습니다.", no_came: "그 이후 시간은 아직 관측되지 않았습니다.", came_note: "그 시각 이후 관측된 시간에 대해 당시 예측이 빗나간 평균, g/kWh.", hours_come: "시간", missed_by: "오차", came_key: "점선: 당시 예측과 구간. 실선: 이후 실제.",
    met_aria: "예측 후 관측된 {n}시간; 사용한 값의 평균 절대 오차 {x} g/kWh", observed_line: "관측", sample_kept: "원장이 보관한 결정: 우연히 뽑힌 일부와, 거절하거나 실패에 뒤따른 모두.", otherwise: "이 버전은 다음에서 다르게 결정합니다: {x}.",
    deferred: "대기 중인 작업", deferred_note: "기다려도 되는 요청, 계획된 시간과 지역별.", waits: "배치 {b}개의 요청 {n}개 대기, {u}개 처리 중.", wait_saves: "바로 실행할 때보다 기다림으로 줄일 것으로 예상되는 양", wait_unknown: "기다림의 절감량은 알 수 없습니다.", planned_at: "{x}에 계획함.", nothing_waits: "대기 중인 것이 없습니다.", next_releases: "다음 시작", at_risk: "위험한 마감", none_at_risk: "위험한 마감이 없습니다.", deadline: "마감", no_places: "아직 자리가 없습니다.", planned_by_hour: "지역과 시간별 요청", later: "이후로 {n}개가 더 계획되어 있습니다.",
    wait_released_greenest: "지금 시작", wait_released_urgent: "기다릴 시간 없음", wait_waits_greener: "더 깨끗한 시간을 기다림", wait_waits_room: "자리를 기다림", wait_no_room: "마감 전 자리 없음", wait_expired: "마감 지남", wait_unplanned: "바로 시작: 계획할 근거 없음",
    play: "재생", pause: "멈춤", pace_of: "속도 ×{x}", recorded: "녹화", recorded_at: "{x} · {b}초 중 {a}초. 스페이스로 재생과 멈춤, [ 와 ] 로 5초씩.", no_recording: "이 브라우저는 녹화를 열 수 없습니다: DecompressionStream이 필요합니다.", gone_recorded: "이 결정은 한 줄만 녹화되었습니다.", past: "과거",
    door: "누가 보시나요?", door_note: "이 게이트웨이는 관리 포트의 토큰이나 operator 또는 control 역할의 키가 있는 사람에게 콘솔을 보여 줍니다.", door_token: "토큰 또는 키", door_open: "열기", door_wrong: "거절되었습니다.", spoken: "현재 배출 {a}, 지연 우선 대비 {b}, 지연 예산 준수 {c}.", scope: "{x}의 것만 보입니다", processes: "합계는 {n}개 프로세스의 것이고, 결정과 지연은 한 프로세스의 것입니다.", asks: "요청", per_s: "/초", no_gateway: "게이트웨이에 연결할 수 없습니다.", emulated_fleet: "서버는 모의입니다: 여기 수치는 실제 하드웨어의 것이 아닙니다.", moved_from: "{x}에서 {n}", nobody: "없음"
  },
};
const stored = (key, known, otherwise) => {
  try { const found = localStorage.getItem("carbon-router." + key); return known.includes(found) ? found : otherwise; } catch { return otherwise; }
};
const store = (key, value) => { try { localStorage.setItem("carbon-router." + key, value); } catch { /* A browser that keeps nothing. */ } };
const prefs = {
  lang: stored("lang", ["en", "ko"], (navigator.language || "").startsWith("ko") ? "ko" : "en"),
  theme: stored("theme", ["auto", "light", "dark"], "auto"),
  zone: stored("zone", ["utc", "local"], "utc"),
};
const t = (key, values = {}) => {
  const text = WORDS[prefs.lang][key];
  if (text === undefined) return `⟦${key}⟧`;
  return text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
};
