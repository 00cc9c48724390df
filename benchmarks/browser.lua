-- For wrk: a browser's twelve header fields, of which the target and the cookie differ every time: no two heads are alike.
local fields = {
  ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
  ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
  ["Accept-Language"] = "en-GB,en;q=0.7,de;q=0.3",
  ["Accept-Encoding"] = "gzip, deflate, br, zstd",
  ["Connection"] = "keep-alive",
  ["Upgrade-Insecure-Requests"] = "1",
  ["Sec-Fetch-Dest"] = "document",
  ["Sec-Fetch-Mode"] = "navigate",
  ["Sec-Fetch-Site"] = "none",
  ["Sec-Fetch-User"] = "?1",
}
local count = 0

request = function()
  count = count + 1
  fields["Cookie"] = "visit=" .. count .. "; theme=dark"
  return wrk.format("GET", wrk.path .. "?visit=" .. count, fields)
end
