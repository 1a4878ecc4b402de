"""What the page says, in English and in Korean. Both are there; the reader chooses."""

from __future__ import annotations

from typing import Final, NamedTuple


class Said(NamedTuple):
    """One text in both languages. ``{names}`` in braces are filled in."""

    en: str
    ko: str

    def html(self, **given: str) -> str:
        """Both, each in an element of its language; what is ``given`` is HTML already."""
        return (
            f'<span lang="en">{self.en.format(**given)}</span>'
            f'<span lang="ko">{self.ko.format(**given)}</span>'
        )


TITLE: Final = Said("Energy and carbon of {model}", "{model}의 에너지와 탄소")
PERIOD: Final = Said(
    "{month}, hours in UTC. From the receipts of every request that was answered, failed, "
    "cancelled or moved.",
    "{month}, 시각은 UTC. 응답·실패·취소·이동된 모든 요청의 영수증을 합산한 값입니다.",
)
EMULATED: Final = Said(
    "{share} of the energy is emulated: no real machine drew it.",
    "에너지의 {share}는 에뮬레이션 값이며 실제 장비가 쓴 것이 아닙니다.",
)
ANSWERS: Final = Said("answers", "응답")
TOKENS: Final = Said("tokens read and written", "읽고 쓴 토큰")
ELECTRICITY: Final = Said("electricity, all of it", "총 전력")
LOCATION: Final = Said("CO₂e, location-based", "CO₂e, 지역 기반")
AN_ANSWER: Final = Said("an answer; CO₂e with embodied", "응답 1건(CO₂e는 내재 포함)")
A_MILLION: Final = Said("CO₂e, a million tokens, with embodied", "토큰 100만 개당 CO₂e(내재 포함)")

ENERGY: Final = Said("Where the electricity went", "전력이 쓰인 곳")
GPU: Final = Said("GPUs, for requests", "GPU(요청 처리)")
HOST: Final = Said("hosts of the GPUs: processors, memory", "GPU 서버 본체(CPU·메모리)")
MACHINES: Final = Said(
    "machines, for requests (not told apart)", "서버(요청 처리, GPU·본체 미구분)"
)
IDLE: Final = Said("machines awake or kept ready, without a request", "요청 없이 대기한 서버")
DIFFERENCE: Final = Said("drawn beyond what requests account for", "요청별 합계를 넘는 차이")
OVERHEAD: Final = Said("buildings: cooling, power supply (PUE)", "시설: 냉각·전력 변환(PUE)")
NETWORK: Final = Said("network", "네트워크")
GATEWAY: Final = Said("the gateway itself", "게이트웨이 자체")
TOTAL: Final = Said("total", "합계")
NOT_KNOWN: Final = Said("not in this ledger", "이 원장에 없음")
SPLIT_NOTE: Final = Said(
    "GPUs and hosts are told apart by the hardware profile, at the load that it is meant for: "
    "modelled.",
    "GPU와 본체의 구분은 하드웨어 프로필의 설계 부하를 기준으로 한 모델값입니다.",
)

GRAMS: Final = Said("What it emitted", "배출량")
BESIDE: Final = Said(
    "Answers to different questions. They are never added.",
    "서로 다른 질문에 대한 답이며, 서로 더할 수 없습니다.",
)
LOCATION_WHAT: Final = Said(
    "location-based: what the grids emitted on the mean, for this electricity",
    "지역 기반: 해당 전력망의 평균 배출",
)
MARGINAL_WHAT: Final = Said(
    "marginal: what grids emitted more because of it ({share} of the electricity)",
    "한계: 이 사용으로 전력망이 더 배출한 양(전력의 {share})",
)
MARKET_WHAT: Final = Said(
    "market-based: by hourly certificates and residual factors ({share} of the electricity)",
    "시장 기반: 시간별 인증서와 잔여 배출계수(전력의 {share})",
)
EMBODIED_WHAT: Final = Said(
    "embodied: making the hardware, by the hours that it was held (modelled)",
    "내재: 하드웨어 제조분을 점유 시간으로 배분(모델값)",
)
WITH_EMBODIED: Final = Said(
    "location-based with embodied: {total}; 90 % range {low} to {high}, as wide as if all errors "
    "were alike. It is of estimated energy and of intensities; what has no range of its own, such "
    "as embodied, is in it as it is.",
    "지역 기반 + 내재: {total}; 90 % 범위 {low} ~ {high}(모든 오차가 같은 방향일 때의 폭). 추정 "
    "에너지와 강도의 범위만 반영하며, 내재처럼 범위가 없는 값은 그대로 더했습니다.",
)
SETTLED: Final = Said(
    "Settled on measured intensities: {share} of the electricity. There receipts said {receipted} "
    "for requests, and settled figures with all else say {settled}.",
    "실측 강도로 정산된 전력: {share}. 해당 시간의 영수증 합계(요청분)는 {receipted}, "
    "정산 합계(대기 등 포함)는 {settled}입니다.",
)
UNSETTLED: Final = Said(
    "Not settled yet: intensities are those known when each request ended.",
    "아직 정산 전: 각 요청이 끝난 시점에 알려진 강도를 사용했습니다.",
)

EACH: Final = Said("For one answer, and for a million tokens", "응답 1건당, 100만 토큰당")
PER_ANSWER: Final = Said("an answer", "응답 1건")
PER_TOKENS: Final = Said("a million tokens, read and written", "읽고 쓴 토큰 100만 개")
PER_OUTPUT: Final = Said("a million tokens written", "쓴 토큰 100만 개")
COL_UNIT: Final = Said("for", "기준")
COL_ENERGY: Final = Said("electricity", "전력")
COL_OPERATION: Final = Said("electricity's CO₂e", "전력 CO₂e")
COL_EMBODIED: Final = Said("embodied", "내재")
COL_SCORE: Final = Said("SCI: both", "SCI: 합계")
SCI_NOTE: Final = Said(
    "Software Carbon Intensity (ISO/IEC 21031, and SCI for AI, the consumer's boundary): "
    "idle machines, facility, network and gateway are in it, training is not.",
    "소프트웨어 탄소 집약도(ISO/IEC 21031, SCI for AI의 소비자 경계): 대기 서버·시설·네트워크·"
    "게이트웨이를 포함하고 학습은 제외합니다.",
)

WHERE: Final = Said("When and where", "언제, 어디서")
WHERE_NOTE: Final = Said(
    "Hours of the day (UTC) and grid zones. The larger a square, the more electricity; its colour "
    "is the grid's mean intensity then, gCO₂e/kWh.",
    "하루 시간대(UTC)와 전력망 구역. 사각형이 클수록 전력이 많고, 색은 당시 전력망 평균 강도"
    "(gCO₂e/kWh)입니다.",
)
COL_ZONE: Final = Said("grid zone", "전력망 구역")
COL_INTENSITY: Final = Said("mean g/kWh", "평균 g/kWh")

WORK: Final = Said("All work counts", "모든 작업을 셉니다")
COL_WORK: Final = Said("requests", "요청")
COL_COUNT: Final = Said("number", "건수")
ANSWERED: Final = Said("answered", "응답됨")
MOVED: Final = Said("attempts that failed and went on elsewhere", "실패 후 다른 곳에서 이어진 시도")
CANCELLED: Final = Said("cancelled by their callers", "호출자가 취소함")
FAILED: Final = Said("failed", "실패")
REFUSED: Final = Said("refused, nothing ran", "거절됨(실행 없음)")
ASKED_AGAIN: Final = Said(
    "of all: asked before by the same client", "그중 클라이언트가 재시도한 요청"
)
TOKENS_READ: Final = Said("tokens of prompts", "프롬프트 토큰")
TOKENS_CACHED: Final = Said("of them cached, not read again", "그중 캐시되어 다시 읽지 않은 토큰")
TOKENS_WRITTEN: Final = Said("tokens of answers", "응답 토큰")

HOW: Final = Said("How the energy of requests is known", "요청 에너지의 근거")
KINDS: Final = {
    "measured": Said("measured by the servers' meters", "서버 계측기로 측정"),
    "calibrated": Said(
        "by a profile fitted to these machines' meters", "해당 장비 계측에 맞춘 프로필"
    ),
    "profile": Said(
        "by a profile measured on such hardware", "같은 종류의 하드웨어에서 측정한 프로필"
    ),
    "estimated": Said(
        "estimated: by a profile that nobody measured, or of work cut short",
        "추정: 측정하지 않은 프로필 또는 중단된 작업",
    ),
    "emulated": Said("emulated: no real machine", "에뮬레이션(실제 장비 아님)"),
    "unknown": Said("not said", "표시 없음"),
}
ESTIMATED_TOKENS: Final = Said(
    "{share} of the answers' tokens were estimated, not counted.",
    "응답 토큰의 {share}는 세지 않고 추정했습니다.",
)

OTHERWISE: Final = Said("Had requests run elsewhere", "다른 곳에서 실행했다면")
NEAREST: Final = Said(
    "Predicted at each decision: {ours} where requests went, {first} on the nearest machine that "
    "could have answered in time: {saving} saved.",
    "결정 시점의 예측: 실제 배치 {ours}, 제시간에 응답할 수 있었던 가장 가까운 장비 {first}: "
    "{saving} 절감.",
)
HOME: Final = Said(
    "Of {rows} attempts whose origin is a region of this fleet: {there} where they ran, {home} in "
    "their home region, with the same joules.",
    "출발지가 이 서비스의 리전인 시도 {rows}건: 실제 {there}, 출발 리전에서 같은 에너지로 {home}.",
)
NO_OTHERWISE: Final = Said(
    "Receipts of this month hold no prediction to compare with.",
    "이번 달 영수증에는 비교할 예측값이 없습니다.",
)
NO_BOUND: Final = Said(
    "What the best possible placement would have saved is not in receipts; a simulation of the "
    "same requests tells it.",
    "가능한 최선의 배치가 줄였을 양은 영수증에 없으며, 같은 요청의 시뮬레이션으로 구합니다.",
)

OTHERS: Final = Said("Beside what others published", "공개된 다른 수치와 나란히")
OTHERS_NOTE: Final = Said(
    "Boundaries, lengths and bases differ: read the last column before comparing.",
    "경계·길이·기준이 서로 다르므로 비교 전에 마지막 열을 보십시오.",
)
COL_WHO: Final = Said("who, and what", "출처와 대상")
COL_BASIS: Final = Said("basis and boundary", "기준과 경계")
THIS: Final = Said("this page: an answer", "이 페이지: 응답 1건")
THIS_BASIS: Final = Said(
    "location-based with embodied; machines, idle, facility, network, gateway",
    "지역 기반 + 내재; 서버·대기·시설·네트워크·게이트웨이",
)

MISSING: Final = Said("What is missing", "빠진 것")
NOTHING_MISSING: Final = Said("Nothing that this ledger knows of.", "이 원장이 아는 한 없습니다.")
LOST: Final = Said(
    "{rows} receipts were lost between {since} and {until} (numbers {first} to {last} of "
    "{writer}, whichever models they were of): not counted.",
    "{since}부터 {until} 사이 영수증 {rows}건 유실(작성자 {writer}의 {first}~{last}번, "
    "모델 불명): 합계에 없음.",
)
UNPRICED: Final = Said(
    "{energy} have no intensity: their grams are not in any sum.",
    "{energy}에는 강도가 없어 그 배출량은 어떤 합계에도 없습니다.",
)
UNMETERED: Final = Said(
    "{rows} receipts have no energy: not counted.",
    "영수증 {rows}건에는 에너지가 없어 제외했습니다.",
)
UNMADE: Final = Said(
    "{hours} endpoint-hours are on hardware without an embodied figure.",
    "내재 배출 계수가 없는 하드웨어의 점유 시간 {hours}시간이 제외되었습니다.",
)
NO_IDLE: Final = Said(
    "No idle energy is in this ledger: machines that stood ready are not in the sums.",
    "대기 전력이 원장에 없어, 대기한 서버는 합계에 없습니다.",
)
NO_GATEWAY: Final = Said(
    "No energy of the gateway is in this ledger.", "게이트웨이의 에너지가 원장에 없습니다."
)

AGAIN: Final = Said("Compute it again", "다시 계산하기")
AGAIN_NOTE: Final = Said(
    "The same ledger gives the same bytes. Every figure is a sum of the receipts' columns, exact "
    "in any order: joules in 2⁻²⁰ J, grams in 2⁻²⁴ g. Run:",
    "같은 원장은 같은 바이트를 냅니다. 모든 수치는 영수증 열의 합이며 순서와 무관하게 정확합니다"
    "(에너지 2⁻²⁰ J, 배출 2⁻²⁴ g 단위). 실행:",
)
HASH: Final = Said(
    "SHA-256 of the list of {count} files that it reads (inputs.csv, as sha256sum prints it): "
    "{digest}",
    "읽은 파일 {count}개 목록(inputs.csv, sha256sum 형식)의 SHA-256: {digest}",
)
FORMULA: Final = Said(
    "grams = (IT energy × PUE + network) / 3.6 MJ × g/kWh of zone and hour; embodied = TE × "
    "TiR / EL × GPUs, for each hour that an endpoint is held, by its users' energy; "
    "SCI = (operational + embodied) / answers or tokens.",
    "배출 = (IT 에너지 × PUE + 네트워크) / 3.6 MJ × 구역·시간별 g/kWh; 내재 = TE × TiR / EL × "
    "GPU 수(엔드포인트 점유 시간마다, 사용자 에너지 비율로); SCI = (운영 + 내재) / 응답 또는 토큰.",
)
COEFFICIENTS: Final = Said("Coefficients", "계수")
COL_NAME: Final = Said("name", "이름")
COL_VALUE: Final = Said("value", "값")
COL_SOURCE: Final = Said("source", "출처")
COL_G: Final = Said("CO₂e", "CO₂e")
COL_SHARE: Final = Said("share", "비율")
