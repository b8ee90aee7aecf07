-- What wrk sends for scale.mjs: the requests of a file, in turn; each line of it is a path and a session id.
-- The counts come as a line of JSON.
local requests, at = {}, 0

function init(args)
	local body = '{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"name":"echo","arguments":{}}}'
	for line in io.lines(args[1]) do
		local path, session = line:match("^(%S+) (%S+)$")
		table.insert(requests, wrk.format("POST", path, {
			["Content-Type"] = "application/json",
			["Accept"] = "application/json, text/event-stream",
			["MCP-Protocol-Version"] = "2025-11-25",
			["Mcp-Session-Id"] = session,
		}, body))
	end
end

function request()
	at = at % #requests + 1
	return requests[at]
end

function done(summary, latency, all)
	local e = summary.errors
	io.write(string.format('{"requests":%d,"seconds":%.6f,"errors":%d,"p99":%d}\n', summary.requests,
		summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(99)))
end
