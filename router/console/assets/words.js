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
    close: "Close", id: "Decision", request: "Request", tenant: "Tenant", origin: "Origin", chance: "Kept by chance", attempt: "Attempt", relaxed: "Relaxed", flags: "Flags", receipt: "Receipt", no_receipt: "not answered yet",
    endpoints_of: "Endpoints", limits: "Budgets", state: "State", in_flight: "In flight", cause: "Cause", models: "Models", source: "Source", pue: "PUE", zone: "Grid zone", observed: "Known since",
    if_moved: "{x} of about {n} requests would go elsewhere", if_then: "then", if_now: "by {x}", if_refused: "refused", if_ttft: "first token, median / 95 %", if_energy: "energy", if_region: "requests by region", if_none: "No decisions are kept yet: wait a little.", working: "Deciding …", interval: "95 % interval {a} – {b}",
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
    close: "닫기", id: "결정", request: "요청", tenant: "테넌트", origin: "출발지", chance: "보관 확률", attempt: "시도", relaxed: "완화", flags: "표시", receipt: "영수증", no_receipt: "아직 응답 없음",
    endpoints_of: "엔드포인트", limits: "예산", state: "상태", in_flight: "처리 중", cause: "원인", models: "모델", source: "출처", pue: "PUE", zone: "전력망 구역", observed: "알려진 시각",
    if_moved: "약 {n}개 요청 중 {x}이(가) 다른 곳으로 갑니다", if_then: "당시", if_now: "{x}", if_refused: "거절", if_ttft: "첫 토큰, 중앙값 / 95 %", if_energy: "에너지", if_region: "지역별 요청", if_none: "아직 남은 결정이 없습니다. 잠시 기다리세요.", working: "결정 중 …", interval: "95 % 구간 {a} – {b}",
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
