"use strict";
const choices = [...document.querySelectorAll("select[data-line]")];
const told = document.getElementById("told");
const count = () => {
  const settled = choices.filter((choice) => choice.value).length;
  told.textContent = `${settled} of ${choices.length} settled`;
};
document.getElementById("corrections").addEventListener("change", count);
document.getElementById("save").addEventListener("click", (event) => {
  const { head, file } = event.currentTarget.dataset;
  const lines = [head, ...choices.map((choice) => `${choice.dataset.line},${choice.value}`)];
  // a byte order mark, without which spreadsheets garble names such as Müller
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", lines.join("\r\n"), "\r\n"], { type: "text/csv" }));
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});
document.getElementById("scripted").hidden = false;
count();
