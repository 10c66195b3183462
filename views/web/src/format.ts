// Numbers as people read them, and elements made without any markup: text is always text.

const UNITS = ["KiB", "MiB", "GiB", "TiB"];

export function bytes(amount: number): string {
  const sign = amount < 0 ? "−" : "";
  let value = Math.abs(amount);
  if (value < 1024) return `${sign}${value} B`;
  value /= 1024;
  let unit = 0;
  while (value >= 1023.95 && unit + 1 < UNITS.length) {
    value /= 1024;
    unit += 1;
  }
  return `${sign}${value.toFixed(1)} ${UNITS[unit]}`;
}

export const count = (number: number): string => number.toLocaleString("en");

export function duration(nanos: number): string {
  const seconds = nanos / 1e9;
  return seconds < 1 ? `${(seconds * 1e3).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
}

export const words = (name: string): string => name.replaceAll("_", " ");

export const address = (page: number, pageBytes: number): string => `0x${(BigInt(page) * BigInt(pageBytes)).toString(16)}`;

/** A cell of a table: what is long may be broken anywhere, what is short is not. */
export const cell = (text: string): HTMLTableCellElement => element("td", text.length > 24 ? { class: "long" } : {}, text);

type Child = Node | string;

/** An element with attributes and children. Strings become text nodes, whatever is in them. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Options that are off can be read and not be chosen. */
export function select(label: string, options: [value: string, text: string, off?: boolean][], chosen: string, change: (value: string) => void): HTMLLabelElement {
  const box = element("select", {});
  for (const [value, text, off] of options) box.append(element("option", off ? { value, disabled: "" } : { value }, text));
  box.value = chosen;
  box.addEventListener("change", () => change(box.value));
  return element("label", {}, `${label} `, box);
}
