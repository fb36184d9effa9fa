-- For wrk: checks that each answer is of one generation of the configuration (see `marked` in
-- benches/reload_under_load), and prints how many are not.
local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init()
    answers, mixed = 0, 0
end

function response(status, headers)
    answers = answers + 1
    local generation = headers["x-answered"]
    local one = status == 200 and generation ~= nil
        and generation == headers["x-asked"]
        and generation == headers["x-chosen"]
        and generation == headers["x-passed"]
        and string.find(headers["x-split"] or "", headers["x-backend"] or "?", 1, true)
    if not one then
        mixed = mixed + 1
    end
end

function done(summary)
    local total, wrong = 0, 0
    for _, thread in ipairs(threads) do
        total = total + thread:get("answers")
        wrong = wrong + thread:get("mixed")
    end
    local errors = summary.errors
    io.write(string.format("wrk answered=%d mixed=%d status=%d read=%d write=%d connect=%d timeout=%d\n",
        total, wrong, errors.status, errors.read, errors.write, errors.connect, errors.timeout))
end
