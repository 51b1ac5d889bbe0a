-- Take from all buckets of a request or from none, or put back what was taken.
--
-- The time is the server's. A number of this language is exact up to 2^53, and nanoseconds since
-- 1970 are more than that: so instants and lengths are two numbers, seconds and nanoseconds. What
-- is decided here is what `judge` decides; the answer in full is computed there, from the time and
-- the states that are returned.
--
-- KEYS    the buckets, in the order of the request; one may come twice
-- ARGV    'take' or 'back', then five for each key: how it counts, and four numbers
--           g  what the cost takes (s, ns), what the burst allows (s, ns), both as lengths
--           e  the count, the cost, the period (s, ns)
--           s  the count, the cost, the period in microseconds, nothing
-- returns the time (s, us), whether it was done, and of each key the state that was there
--
-- States: 'g' and an instant; 'e' and the instants in order; 's' and window:before:current. An
-- instant is 19 digits, the last nine of them nanoseconds.

local time = redis.call('TIME')
local now_s, now_n = tonumber(time[1]), tonumber(time[2]) * 1000
local now_us = now_s * 1000000 + tonumber(time[2])
local DIGITS = 19

local function plus(s, n, more_s, more_n)
  n = n + more_n
  if n >= 1000000000 then return s + more_s + 1, n - 1000000000 end
  return s + more_s, n
end

local function minus(s, n, less_s, less_n)
  n = n - less_n
  if n < 0 then return s - less_s - 1, n + 1000000000 end
  return s - less_s, n
end

local function later(s, n, than_s, than_n)
  return s > than_s or (s == than_s and n > than_n)
end

local function written(s, n)
  return string.format('%010.0f%09.0f', s, n)
end

local function read(text, first)
  return tonumber(string.sub(text, first, first + 9)), tonumber(string.sub(text, first + 10, first + 18))
end

-- Milliseconds from now, rounded up and one more.
local function lives(s, n)
  local left_s, left_n = minus(s, n, now_s, now_n)
  return math.max(1, left_s * 1000 + math.ceil(left_n / 1000000) + 1)
end

-- a * b > c * d, of whole numbers that are exact while their products are not.
local SPLIT = 67108864
local function product(a, b)
  local a_low, b_low = a % SPLIT, b % SPLIT
  local a_high, b_high = (a - a_low) / SPLIT, (b - b_low) / SPLIT
  local low = a_low * b_low
  local middle = a_high * b_low + a_low * b_high
  local carried = middle + math.floor(low / SPLIT)
  local carried_low = carried % SPLIT
  return a_high * b_high + (carried - carried_low) / SPLIT, carried_low, low % SPLIT
end
local function more(a, b, c, d)
  local high, middle, low = product(a, b)
  local other_high, other_middle, other_low = product(c, d)
  if high ~= other_high then return high > other_high end
  if middle ~= other_middle then return middle > other_middle end
  return low > other_low
end

local function counts(old)
  local window, before, current = string.match(old, '^s(%d+):(%d+):(%d+)$')
  return tonumber(window or 0), tonumber(before or 0), tonumber(current or 0)
end
local function counted(window, before, current)
  return string.format('s%.0f:%.0f:%.0f', window, before, current)
end

-- Each returns the new state and how long it lives, or nothing where the bucket refuses.
local take = {}

function take.g(old, cost_s, cost_n, burst_s, burst_n)
  local s, n = now_s, now_n
  if old then
    local spent_s, spent_n = read(old, 2)
    if later(spent_s, spent_n, s, n) then s, n = spent_s, spent_n end
  end
  s, n = plus(s, n, cost_s, cost_n)
  local most_s, most_n = plus(now_s, now_n, burst_s, burst_n)
  if later(s, n, most_s, most_n) then return end
  return 'g' .. written(s, n), lives(s, n)
end

function take.e(old, count, cost, period_s, period_n)
  old = old or 'e'
  local first, length = 2, #old
  local gone_s, gone_n = minus(now_s, now_n, period_s, period_n)
  while first < length do
    local s, n = read(old, first)
    if later(s, n, gone_s, gone_n) then break end
    first = first + DIGITS
  end
  local live = math.floor((length - first + 1) / DIGITS)
  if live + cost > count then return end
  local s, n = now_s, now_n
  if live > 0 then
    local last_s, last_n = read(old, length - DIGITS + 1)
    if later(last_s, last_n, s, n) then s, n = last_s, last_n end
  end
  local new = 'e' .. string.sub(old, first) .. string.rep(written(s, n), cost)
  return new, lives(plus(s, n, period_s, period_n))
end

function take.s(old, count, cost, period)
  local window, before, current = counts(old or '')
  local here = (now_us - math.fmod(now_us, period)) / period
  if here == window + 1 then
    window, before, current = here, current, 0
  elseif here > window then
    window, before, current = here, 0, 0
  end
  local passed = math.max(0, now_us - window * period)
  local room = count - current - cost
  if room < 0 or more(before, period - passed, room, period) then return end
  local left = (window + 2) * period - now_us
  return counted(window, before, current + cost), math.max(1, math.ceil(left / 1000) + 1)
end

-- Each returns the state as if the cost had not been taken.
local back = {}

function back.g(old, cost_s, cost_n)
  local s, n = read(old, 2)
  s, n = minus(s, n, cost_s, cost_n)
  if s < 0 then s, n = 0, 0 end
  return 'g' .. written(s, n)
end

function back.e(old, _, cost)
  return string.sub(old, 1, math.max(1, #old - cost * DIGITS))
end

function back.s(old, _, cost)
  local window, before, current = counts(old)
  local rest = math.max(0, cost - current)
  return counted(window, math.max(0, before - rest), math.max(0, current - cost))
end

local answer = { time[1], time[2], 1 }
local states, lifetimes = {}, {}
for place, key in ipairs(KEYS) do
  local at = 2 + (place - 1) * 5
  local kind = ARGV[at]
  local a, b, c, d = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local found = redis.call('GET', key)
  answer[place + 3] = found
  local old = states[key] or found
  -- One that is counted in another way by now begins anew.
  if old and string.sub(old, 1, 1) ~= kind then old = false end
  if ARGV[1] == 'take' then
    local new, lifetime = take[kind](old, a, b, c, d)
    if new then
      states[key], lifetimes[key] = new, lifetime
    else
      answer[3] = 0
    end
  elseif old then
    states[key] = back[kind](old, a, b)
  end
end
if answer[3] == 1 then
  for key, new in pairs(states) do
    if lifetimes[key] then
      redis.call('SET', key, new, 'PX', string.format('%.0f', lifetimes[key]))
    else
      redis.call('SET', key, new, 'KEEPTTL')
    end
  end
end
return answer
