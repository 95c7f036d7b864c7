// Formats numbers as the agent's commands do.

function threeDigits(value) {
  const size = Math.abs(value);
  return value.toFixed(size < 1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0);
}

/** Bytes per second as a bit rate: `40.0 Mbit/s`. */
export function rate(bytesPerSecond) {
  if (bytesPerSecond === undefined) return "–";
  const bits = bytesPerSecond * 8;
  if (bits < 1) return "0";
  for (const [unit, name] of [[1e9, "Gbit/s"], [1e6, "Mbit/s"], [1e3, "kbit/s"]]) {
    if (bits >= unit) return `${threeDigits(bits / unit)} ${name}`;
  }
  return `${bits.toFixed(0)} bit/s`;
}

/** Bytes: `1.50 MB`. */
export function bytes(count) {
  for (const [unit, name] of [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
    if (count >= unit) return `${threeDigits(count / unit)} ${name}`;
  }
  return `${count} B`;
}

/** A whole number with its thousands apart. */
export function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Seconds as milliseconds: `30.5 ms`. */
export function milliseconds(seconds) {
  return seconds === undefined ? "–" : `${threeDigits(seconds * 1e3)} ms`;
}

/** A part of 1: `80.0 %`. */
export function percent(part) {
  return part === undefined ? "–" : `${(part * 100).toFixed(1)} %`;
}

/** Seconds in their two largest units: `2h 5m`. */
export function duration(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]]) {
    if (left >= unit || (unit === 1 && parts.length === 0)) {
      parts.push(`${Math.floor(left / unit)}${name}`);
      left %= unit;
    }
  }
  return parts.slice(0, 2).join(" ");
}

/** The time of day of a date, in the browser's time zone: `12:03:04`. */
export function clock(date) {
  const two = (number) => String(number).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** A policy's settings as flags: `weighted --weight eth0=4`. */
export function policy(given) {
  const words = [given.name];
  for (const [name, value] of Object.entries(given)) {
    if (name === "name") continue;
    // As on the command line, a list repeats its flag.
    const flag = `--${name.replace(/s$/, Array.isArray(value) ? "" : "s").replaceAll("_", "-")}`;
    if (value === true) words.push(flag);
    else for (const one of [value].flat()) words.push(flag, String(one));
  }
  return words.join(" ");
}
