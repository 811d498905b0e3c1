-- Requests as browsers send them: no two heads are the same.
local n = 0

request = function()
  n = n + 1
  return wrk.format("GET", nil, {
    ["Host"] = "localhost",
    ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ["Accept"] = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
    ["Accept-Language"] = "en-US,en;q=0.5",
    ["Accept-Encoding"] = "gzip, deflate, br",
    ["Referer"] = "http://localhost/pages/" .. n,
  })
end
