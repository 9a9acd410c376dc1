// What is asked of the server, and what one is told of it.

import { $, view } from "./state.js";

const TOKEN = new URLSearchParams(location.search).get("token") || "";

export async function ask(path, body) {
  const options = { headers: { "X-Token": TOKEN } };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    lost();
    throw new Error(
      "The server has ended. All that was saved is on disk: start refavs annotate again and open its new address.",
    );
  }
  if (answer.status === 403) throw new Error(await answer.text());
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error);
  return content;
}

export const clipPath = (name) => `/api/clips/${encodeURIComponent(view.clip_id)}${name ? "/" + name : ""}`;
export const media = (name) => `${clipPath(name)}?token=${encodeURIComponent(TOKEN)}`;

let changes = 0;
export function saved() {
  $("saved").textContent = `Saved ${new Date().toLocaleTimeString("en-GB")}`;
  $("saved").dataset.changes = ++changes;
}

function lost() {
  $("saved").textContent = "Server has ended";
  $("saved").classList.add("lost");
}

let hiding = 0;
export function complain(error) {
  $("error").textContent = error.message || error;
  $("error").hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => ($("error").hidden = true), 9000);
}

export function calm() {
  $("error").hidden = true;
}
