-- wrk with a path of its own for every request: PREFIX/THREAD-NUMBER/SUFFIX. Arguments: PREFIX SUFFIX
-- PAUSE, the milliseconds a connection waits before each request.
-- At the end: a line with the requests sent and the answers with status 200, over all threads.
local threads = {}

function setup(thread)
  thread:set("id", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  prefix, suffix, pause, asked, answered = arguments[1], arguments[2], tonumber(arguments[3]), 0, 0
end

function delay()
  return pause
end

function request()
  asked = asked + 1
  return wrk.format("GET", prefix .. "/" .. (id or "none") .. "-" .. asked .. suffix)
end

function response(status)
  if status == 200 then answered = answered + 1 end
end

function done()
  local sent, got = 0, 0
  for _, thread in ipairs(threads) do
    sent, got = sent + thread:get("asked"), got + thread:get("answered")
  end
  print("workload " .. sent .. " " .. got)
end
